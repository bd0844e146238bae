"""Reading rooms that another server is in too (Server-Server API, "Retrieving events", "Backfilling …")."""

from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query, Response
from pydantic import Field

from identity_server.homeserver.federation import reads
from identity_server.homeserver.federation.requester import Origin
from identity_server.homeserver.federation.server_visibility import pdus_of
from identity_server.homeserver.timeline.timeline import OpenTimeline
from identity_server.matrix.canonical_json import LARGEST_INTEGER
from identity_server.matrix.identifiers import Text
from identity_server.runtime.dependencies import Now, Reading
from identity_server.runtime.errors import json_response
from identity_server.runtime.requests import Body, JsonRoute

router = APIRouter(prefix="/_matrix/federation/v1", route_class=JsonRoute)

_MOST_EVENTS = 100
# Those who ask for missing events have most of them.
_MOST_MISSING = 100
_MOST_STARTS = 50

Ids = Annotated[list[Annotated[Text, Field(max_length=255)]], Field(max_length=500)]


class MissingQuery(Body):
    latest_events: Ids = Field(default_factory=list)
    earliest_events: Ids = Field(default_factory=list)
    limit: int = 10
    min_depth: int = 0


@router.get("/event/{event_id}")
async def get_event(
    origin: Origin, event_id: Text, session: Reading, timeline: OpenTimeline, now_ms: Now
) -> dict[str, Any]:
    event = await reads.single_event(session, timeline, origin, event_id)
    return _transaction(timeline, [event], now_ms)


@router.get("/state/{room_id}")
async def get_state(
    origin: Origin, room_id: Text, session: Reading, timeline: OpenTimeline, event_id: Text
) -> Response:
    version = await reads.check_may_read(session, timeline, origin, room_id)
    state_ids = list((await reads.state_before(session, timeline, room_id, event_id)).values())
    chain_ids = await reads.auth_chain_ids(session, room_id, version, state_ids)
    return json_response(
        {
            "pdus": [orjson.Fragment(pdu) for pdu in await pdus_of(session, state_ids)],
            "auth_chain": [orjson.Fragment(pdu) for pdu in await pdus_of(session, chain_ids)],
        }
    )


@router.get("/state_ids/{room_id}")
async def get_state_ids(
    origin: Origin, room_id: Text, session: Reading, timeline: OpenTimeline, event_id: Text
) -> dict[str, Any]:
    version = await reads.check_may_read(session, timeline, origin, room_id)
    state_ids = list((await reads.state_before(session, timeline, room_id, event_id)).values())
    return {"pdu_ids": state_ids, "auth_chain_ids": await reads.auth_chain_ids(session, room_id, version, state_ids)}


@router.get("/event_auth/{room_id}/{event_id}")
async def get_auth_chain(
    origin: Origin, room_id: Text, event_id: Text, session: Reading, timeline: OpenTimeline
) -> Response:
    version = await reads.check_may_read(session, timeline, origin, room_id)
    await reads.event_in(session, room_id, event_id)
    chain_ids = await reads.auth_chain_ids(session, room_id, version, [event_id])
    return json_response({"auth_chain": [orjson.Fragment(pdu) for pdu in await pdus_of(session, chain_ids)]})


@router.get("/backfill/{room_id}")
async def backfill(
    origin: Origin,
    room_id: Text,
    session: Reading,
    timeline: OpenTimeline,
    now_ms: Now,
    v: Annotated[list[Text], Query(max_length=_MOST_STARTS)],
    limit: int,
) -> dict[str, Any]:
    await reads.check_may_read(session, timeline, origin, room_id)
    wanted = max(0, min(limit, _MOST_EVENTS))
    events = await reads.backfill(session, timeline, origin, room_id, v, wanted)
    return _transaction(timeline, events, now_ms)


@router.post("/get_missing_events/{room_id}")
async def get_missing_events(
    origin: Origin, room_id: Text, body: MissingQuery, session: Reading, timeline: OpenTimeline
) -> dict[str, Any]:
    await reads.check_may_read(session, timeline, origin, room_id)
    events = await reads.missing_events(
        session,
        timeline,
        origin,
        room_id,
        latest=body.latest_events,
        earliest=body.earliest_events,
        limit=max(0, min(body.limit, _MOST_MISSING)),
        min_depth=body.min_depth,
    )
    return {"events": [event.pdu for event in events]}


@router.get("/timestamp_to_event/{room_id}")
async def get_event_by_timestamp(
    origin: Origin,
    room_id: Text,
    session: Reading,
    timeline: OpenTimeline,
    ts: Annotated[int, Query(ge=-LARGEST_INTEGER, le=LARGEST_INTEGER)],
    direction: Annotated[Literal["f", "b"], Query(alias="dir")] = "f",
) -> dict[str, Any]:
    await reads.check_may_read(session, timeline, origin, room_id)
    return await reads.nearest_event(session, room_id, ts, forward=direction == "f")


def _transaction(timeline: OpenTimeline, events: list[Any], now_ms: int) -> dict[str, Any]:
    return {"origin": timeline.server_name, "origin_server_ts": now_ms, "pdus": [event.pdu for event in events]}
