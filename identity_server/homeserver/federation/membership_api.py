"""Into rooms and out of them (Server-Server API, "Joining Rooms", "Knocking …", "Inviting …", "Leaving Rooms")."""

from collections.abc import Sequence
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Response

from identity_server.homeserver.events.event import Event
from identity_server.homeserver.federation import reads
from identity_server.homeserver.federation.handshakes import OpenHandshakes
from identity_server.homeserver.federation.invited import OpenInvitations
from identity_server.homeserver.federation.requester import Origin
from identity_server.homeserver.federation.server_visibility import pdus_of
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.stripped import shown_state
from identity_server.homeserver.timeline.timeline import Timeline
from identity_server.matrix.errors import IncompatibleRoomVersion, MissingParam
from identity_server.matrix.identifiers import Text
from identity_server.runtime.database import Database
from identity_server.runtime.dependencies import Now, OpenDatabase, Transaction
from identity_server.runtime.errors import json_response
from identity_server.runtime.requests import JsonRoute

router = APIRouter(prefix="/_matrix/federation", route_class=JsonRoute)

Versions = Annotated[Sequence[str], Query()]
Pdu = dict[str, Any]


@router.get("/v1/make_join/{room_id}/{user_id}")
async def make_join(
    origin: Origin,
    room_id: Text,
    user_id: Text,
    session: Transaction,
    handshakes: OpenHandshakes,
    now_ms: Now,
    ver: Versions = ("1",),
) -> dict[str, Any]:
    return await handshakes.offer(session, origin, room_id, user_id, "join", versions=ver, now_ms=now_ms)


@router.get("/v1/make_knock/{room_id}/{user_id}")
async def make_knock(
    origin: Origin,
    room_id: Text,
    user_id: Text,
    session: Transaction,
    handshakes: OpenHandshakes,
    now_ms: Now,
    ver: Versions = ("1",),
) -> dict[str, Any]:
    return await handshakes.offer(session, origin, room_id, user_id, "knock", versions=ver, now_ms=now_ms)


@router.get("/v1/make_leave/{room_id}/{user_id}")
async def make_leave(
    origin: Origin, room_id: Text, user_id: Text, session: Transaction, handshakes: OpenHandshakes, now_ms: Now
) -> dict[str, Any]:
    return await handshakes.offer(session, origin, room_id, user_id, "leave", versions=None, now_ms=now_ms)


@router.put("/v2/send_join/{room_id}/{event_id}")
async def send_join(
    origin: Origin, room_id: Text, event_id: Text, body: Pdu, handshakes: OpenHandshakes, database: OpenDatabase
) -> Response:
    event = await handshakes.accept(origin, room_id, event_id, body, "join")
    return json_response(await _joined(database, handshakes.receiver.timeline, event))


@router.put("/v1/send_join/{room_id}/{event_id}", deprecated=True)
async def send_join_v1(
    origin: Origin, room_id: Text, event_id: Text, body: Pdu, handshakes: OpenHandshakes, database: OpenDatabase
) -> Response:
    event = await handshakes.accept(origin, room_id, event_id, body, "join")
    return json_response([200, await _joined(database, handshakes.receiver.timeline, event)])


@router.put("/v1/send_knock/{room_id}/{event_id}")
async def send_knock(
    origin: Origin, room_id: Text, event_id: Text, body: Pdu, handshakes: OpenHandshakes, database: OpenDatabase
) -> dict[str, Any]:
    event = await handshakes.accept(origin, room_id, event_id, body, "knock")
    async with database.reading() as session:
        return {"knock_room_state": [shown.pdu for shown in await shown_state(session, event.room_id)]}


@router.put("/v2/send_leave/{room_id}/{event_id}")
async def send_leave(
    origin: Origin, room_id: Text, event_id: Text, body: Pdu, handshakes: OpenHandshakes
) -> dict[str, Any]:
    await handshakes.accept(origin, room_id, event_id, body, "leave")
    return {}


@router.put("/v1/send_leave/{room_id}/{event_id}", deprecated=True)
async def send_leave_v1(
    origin: Origin, room_id: Text, event_id: Text, body: Pdu, handshakes: OpenHandshakes
) -> Response:
    await handshakes.accept(origin, room_id, event_id, body, "leave")
    return json_response([200, {}])


@router.put("/v2/invite/{room_id}/{event_id}")
async def invite(
    origin: Origin, room_id: Text, event_id: Text, body: Pdu, invitations: OpenInvitations
) -> dict[str, Any]:
    for name in ("room_version", "event"):
        if name not in body:
            raise MissingParam(f"{name} is missing")
    event = await invitations.accept(
        origin, room_id, event_id, body["event"], body["room_version"], body.get("invite_room_state")
    )
    return {"event": event.pdu}


@router.put("/v1/invite/{room_id}/{event_id}", deprecated=True)
async def invite_v1(_origin: Origin, room_id: Text, event_id: Text, body: Pdu) -> None:
    # "Servers which receive a v1 invite request must assume that the room version is either 1 or 2."
    raise IncompatibleRoomVersion("This server does not know the room's version", room_version="1")


async def _joined(database: Database, timeline: Timeline, event: Event) -> dict[str, Any]:
    """The room as it was when the user came."""
    async with database.reading() as session:
        state = await reads.state_before(session, timeline, event.room_id, event.event_id)
        state_ids = list(state.values())
        chain_ids = await reads.auth_chain_ids(session, event.room_id, event.version, [event.event_id, *state_ids])
        return {
            "origin": timeline.server_name,
            "event": event.pdu,
            "members_omitted": False,
            "servers_in_room": sorted(await store.servers_in_room(session, event.room_id)),
            "state": [orjson.Fragment(pdu) for pdu in await pdus_of(session, state_ids)],
            "auth_chain": [orjson.Fragment(pdu) for pdu in await pdus_of(session, chain_ids)],
        }
