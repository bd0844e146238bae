"""Typing notifications (Client-Server API)."""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from identity_server.homeserver.access.current import CurrentUser
from identity_server.homeserver.federation.sender import OpenSender
from identity_server.homeserver.timeline import store as timeline
from identity_server.homeserver.typing.notify import tell_servers
from identity_server.homeserver.typing.typing import OpenTyping
from identity_server.matrix.errors import Forbidden
from identity_server.matrix.identifiers import RoomID
from identity_server.runtime.dependencies import Reading
from identity_server.runtime.requests import Body, JsonRoute

router = APIRouter(tags=["typing"], route_class=JsonRoute)

_USUAL_MS = 30_000
_LONGEST_MS = 120_000


class TypingBody(Body):
    typing: bool
    timeout: Annotated[int, Field(ge=0)] | None = None


@router.put("/rooms/{room_id}/typing/{user_id}")
async def put_typing(
    room_id: RoomID,
    user_id: str,
    body: TypingBody,
    user: CurrentUser,
    session: Reading,
    typing: OpenTyping,
    sender: OpenSender,
) -> dict[str, Any]:
    if user_id != user.user_id:
        raise Forbidden("One types for oneself only")
    if await timeline.membership(session, room_id, user_id) != timeline.JOIN:
        raise Forbidden("You are not in the room")
    if body.typing:
        typing.start(room_id, user_id, min(_USUAL_MS if body.timeout is None else body.timeout, _LONGEST_MS))
        await tell_servers(session, sender, room_id, user_id, typing=True)
    elif typing.stop(room_id, user_id):
        await tell_servers(session, sender, room_id, user_id, typing=False)
    return {}
