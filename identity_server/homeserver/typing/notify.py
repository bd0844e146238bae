"""``m.typing`` from server to server (Server-Server API, "Typing Notifications")."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.federation.sender import Sender
from identity_server.homeserver.timeline import store as timeline
from identity_server.homeserver.typing.typing import Typing
from identity_server.matrix.errors import InvalidParam
from identity_server.matrix.identifiers import check_user_id, domain_of

TYPING = "m.typing"
# An EDU names no end: it is repeated as long as somebody types.
_REMOTE_MS = 30_000


async def tell_servers(session: AsyncSession, sender: Sender, room_id: str, user_id: str, *, typing: bool) -> None:
    content = {"room_id": room_id, "user_id": user_id, "typing": typing}
    for server_name in await timeline.servers_in_room(session, room_id) - {domain_of(user_id)}:
        sender.send_soon(server_name, TYPING, content, key=f"{room_id} {user_id}")


async def receive_typing(session: AsyncSession, typing: Typing, origin: str, content: Mapping[str, Any]) -> None:
    """Raises ``InvalidParam`` for what is not of the right form, or not of the origin's users in the room."""
    room_id, user_id = content.get("room_id"), content.get("user_id")
    try:
        is_of_origin = isinstance(user_id, str) and domain_of(check_user_id(user_id)) == origin
    except ValueError:
        is_of_origin = False
    if not is_of_origin or not isinstance(user_id, str) or not isinstance(room_id, str) or "\0" in room_id:
        raise InvalidParam("Typing is told of one's own users")
    if await timeline.membership(session, room_id, user_id) != timeline.JOIN:
        raise InvalidParam("The user is not in the room")
    if content.get("typing") is True:
        typing.start(room_id, user_id, _REMOTE_MS)
    else:
        typing.stop(room_id, user_id)
