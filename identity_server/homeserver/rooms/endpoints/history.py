"""What was said before (Client-Server API, GET /messages, "Event Context")."""

from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query

from identity_server.homeserver.access.current import CurrentUser
from identity_server.homeserver.rooms.backfill import OpenPast
from identity_server.homeserver.rooms.context import read_context
from identity_server.homeserver.rooms.messages import Span, show_page
from identity_server.homeserver.timeline.client_format import Viewer
from identity_server.homeserver.timeline.event_filter import EventFilter, read_event_filter
from identity_server.homeserver.timeline.position import read_position
from identity_server.homeserver.timeline.timeline import OpenTimeline
from identity_server.matrix.errors import InvalidParam
from identity_server.matrix.identifiers import RoomID, Text
from identity_server.runtime.dependencies import Now, Reading
from identity_server.runtime.requests import JsonRoute

router = APIRouter(tags=["rooms"], route_class=JsonRoute)

Limit = Annotated[int, Query(ge=0)]


@router.get("/rooms/{room_id}/messages")
async def get_messages(
    room_id: RoomID,
    user: CurrentUser,
    past: OpenPast,
    now_ms: Now,
    direction: Annotated[Literal["b", "f"], Query(alias="dir")] = "f",
    from_: Annotated[str | None, Query(alias="from")] = None,
    to: str | None = None,
    limit: Limit = 10,
    filter_: Annotated[str | None, Query(alias="filter")] = None,
) -> dict[str, Any]:
    span = Span(direction == "b", _position(from_), _position(to), limit)
    wanted, viewer = _filter(filter_), Viewer(user.user_id, user.device_id)
    async with past.reading_page(room_id, user.user_id, span, wanted) as (session, page):
        return await show_page(session, past.timeline, page, wanted, viewer=viewer, now_ms=now_ms)


@router.get("/rooms/{room_id}/context/{event_id}")
async def get_context(
    room_id: RoomID,
    event_id: Text,
    user: CurrentUser,
    session: Reading,
    timeline: OpenTimeline,
    now_ms: Now,
    limit: Limit = 10,
    filter_: Annotated[str | None, Query(alias="filter")] = None,
) -> dict[str, Any]:
    viewer = Viewer(user.user_id, user.device_id)
    return await read_context(
        session, timeline, room_id, event_id, limit=limit, wanted=_filter(filter_), viewer=viewer, now_ms=now_ms
    )


def _position(token: str | None) -> int | None:
    return read_position(token) if token else None


def _filter(definition: str | None) -> EventFilter:
    if not definition:
        return EventFilter()
    try:
        return read_event_filter(orjson.loads(definition))
    except orjson.JSONDecodeError as error:
        raise InvalidParam("filter is not JSON") from error
