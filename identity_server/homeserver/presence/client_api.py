"""Presence (Client-Server API)."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field

from identity_server.homeserver.access.current import CurrentUser
from identity_server.homeserver.presence.attendance import OpenAttendance
from identity_server.homeserver.presence.tell import absent
from identity_server.homeserver.timeline import store as timeline
from identity_server.matrix.errors import Forbidden
from identity_server.matrix.identifiers import Text
from identity_server.runtime.dependencies import Now, Reading
from identity_server.runtime.requests import Body, JsonRoute

router = APIRouter(prefix="/presence/{user_id}", tags=["presence"], route_class=JsonRoute)


class StatusBody(Body):
    presence: Literal["online", "offline", "unavailable"]
    status_msg: Annotated[Text, Field(max_length=1024)] | None = None


@router.get("/status")
async def get_status(
    user_id: Text, user: CurrentUser, session: Reading, attendance: OpenAttendance, now_ms: Now
) -> dict[str, Any]:
    is_own = user_id == user.user_id
    if not is_own and not await timeline.shares_room(session, user.user_id, user_id):
        raise Forbidden("You are not allowed to see their presence")
    status = await attendance.status_of(session, user_id)
    return (status or absent(user_id, now_ms=now_ms)).as_content(now_ms=now_ms)


# A transaction of its own: what is told of a user is written in one place.
@router.put("/status")
async def put_status(user_id: Text, body: StatusBody, user: CurrentUser, attendance: OpenAttendance) -> dict[str, Any]:
    if user_id != user.user_id:
        raise Forbidden("One's own presence only")
    await attendance.set_status(user_id, user.device_id, body.presence, body.status_msg)
    return {}
