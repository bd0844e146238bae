"""What relates to events, threads, and moments (under ``v1``)."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from identity_server.homeserver.access.current import CurrentUser
from identity_server.homeserver.rooms.backfill import OpenPast
from identity_server.homeserver.rooms.related import Question, read_related, read_threads
from identity_server.homeserver.timeline.client_format import Viewer
from identity_server.homeserver.timeline.position import read_position
from identity_server.homeserver.timeline.timeline import OpenTimeline
from identity_server.matrix.canonical_json import LARGEST_INTEGER
from identity_server.matrix.identifiers import RoomID, Text
from identity_server.runtime.dependencies import Now, Reading
from identity_server.runtime.requests import JsonRoute

router = APIRouter(tags=["rooms"], route_class=JsonRoute)

Limit = Annotated[int, Query(ge=1)]


@router.get("/rooms/{room_id}/relations/{event_id}/{relation_type}/{event_type}")
@router.get("/rooms/{room_id}/relations/{event_id}/{relation_type}")
@router.get("/rooms/{room_id}/relations/{event_id}")
async def get_relations(
    room_id: RoomID,
    event_id: Text,
    user: CurrentUser,
    session: Reading,
    timeline: OpenTimeline,
    now_ms: Now,
    relation_type: Text | None = None,
    event_type: Text | None = None,
    from_: Annotated[str | None, Query(alias="from")] = None,
    to: str | None = None,
    limit: Limit = 50,
    direction: Annotated[Literal["b", "f"], Query(alias="dir")] = "b",
    recurse: bool = False,
) -> dict[str, Any]:
    question = Question(
        relation_type,
        event_type,
        read_position(from_) if from_ else None,
        read_position(to) if to else None,
        limit,
        direction == "b",
        recurse,
    )
    viewer = Viewer(user.user_id, user.device_id)
    return await read_related(session, timeline, room_id, event_id, question, viewer=viewer, now_ms=now_ms)


@router.get("/rooms/{room_id}/threads")
async def get_threads(
    room_id: RoomID,
    user: CurrentUser,
    session: Reading,
    timeline: OpenTimeline,
    now_ms: Now,
    include: Literal["all", "participated"] = "all",
    limit: Limit = 50,
    from_: Annotated[str | None, Query(alias="from")] = None,
) -> dict[str, Any]:
    return await read_threads(
        session,
        timeline,
        room_id,
        start=read_position(from_) if from_ else None,
        limit=limit,
        participated=include == "participated",
        viewer=Viewer(user.user_id, user.device_id),
        now_ms=now_ms,
    )


@router.get("/rooms/{room_id}/timestamp_to_event")
async def get_event_by_timestamp(
    room_id: RoomID,
    user: CurrentUser,
    past: OpenPast,
    ts: Annotated[int, Query(ge=0, le=LARGEST_INTEGER)],
    direction: Annotated[Literal["b", "f"], Query(alias="dir")],
) -> dict[str, Any]:
    return await past.event_near(room_id, user.user_id, ts, backwards=direction == "b")
