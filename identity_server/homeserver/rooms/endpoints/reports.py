"""Reporting rooms, events and users."""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from identity_server.homeserver.access.current import CurrentUser
from identity_server.homeserver.rooms.report import report_event, report_room, report_user
from identity_server.matrix.identifiers import RoomID, Text, UserID
from identity_server.runtime.dependencies import Now, Transaction
from identity_server.runtime.requests import Body, JsonRoute

router = APIRouter(tags=["rooms"], route_class=JsonRoute)


class Reason(Body):
    reason: Annotated[Text, Field(max_length=10_000)] | None = None


class Report(Reason):
    score: Annotated[int, Field(ge=-100, le=0)] | None = None


class UserReport(Body):
    reason: Annotated[Text, Field(max_length=10_000)]


@router.post("/rooms/{room_id}/report")
async def post_room_report(
    room_id: RoomID, body: Reason, user: CurrentUser, session: Transaction, now_ms: Now
) -> dict[str, Any]:
    await report_room(session, user.user_id, room_id, body.reason, now_ms=now_ms)
    return {}


@router.post("/rooms/{room_id}/report/{event_id}")
async def post_event_report(
    room_id: RoomID, event_id: Text, body: Report, user: CurrentUser, session: Transaction, now_ms: Now
) -> dict[str, Any]:
    await report_event(session, user.user_id, room_id, event_id, body.reason, body.score, now_ms=now_ms)
    return {}


@router.post("/users/{user_id}/report")
async def post_user_report(
    user_id: UserID, body: UserReport, user: CurrentUser, session: Transaction, now_ms: Now
) -> dict[str, Any]:
    await report_user(session, user.user_id, user_id, body.reason, now_ms=now_ms)
    return {}
