"""Sending events and reading the state (Client-Server API, "Getting events for a room", "Sending events")."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from identity_server.homeserver.access.current import CurrentUser
from identity_server.homeserver.aliases.canonical import check_canonical_alias
from identity_server.homeserver.aliases.change import CANONICAL_ALIAS
from identity_server.homeserver.rooms.member_state import put_membership
from identity_server.homeserver.rooms.membership import OpenMembers
from identity_server.homeserver.rooms.read import (
    joined_members,
    members_of,
    read_event,
    read_state,
    read_state_event,
)
from identity_server.homeserver.rooms.send import send_message, send_redaction, send_state
from identity_server.homeserver.timeline.client_format import Viewer
from identity_server.homeserver.timeline.members import MEMBER
from identity_server.homeserver.timeline.timeline import OpenTimeline
from identity_server.matrix.identifiers import RoomID, Text
from identity_server.runtime.dependencies import Now, Reading, Transaction
from identity_server.runtime.requests import JsonRoute

router = APIRouter(tags=["rooms"], route_class=JsonRoute)

Membership = Literal["join", "invite", "knock", "leave", "ban"]


@router.get("/rooms/{room_id}/event/{event_id}")
async def get_event(
    room_id: RoomID, event_id: Text, user: CurrentUser, session: Reading, timeline: OpenTimeline, now_ms: Now
) -> dict[str, Any]:
    viewer = Viewer(user.user_id, user.device_id)
    return await read_event(session, timeline, room_id, event_id, viewer=viewer, now_ms=now_ms)


@router.get("/rooms/{room_id}/state/{event_type}/{state_key:path}")
@router.get("/rooms/{room_id}/state/{event_type}")
async def get_state_event(
    room_id: RoomID,
    event_type: Text,
    user: CurrentUser,
    session: Reading,
    now_ms: Now,
    state_key: Text = "",
    shape: Annotated[Literal["content", "event"], Query(alias="format")] = "content",
) -> Any:
    viewer = Viewer(user.user_id, user.device_id)
    return await read_state_event(
        session, room_id, (event_type, state_key), viewer=viewer, whole=shape == "event", now_ms=now_ms
    )


@router.get("/rooms/{room_id}/state")
async def get_state(room_id: RoomID, user: CurrentUser, session: Reading, now_ms: Now) -> list[dict[str, Any]]:
    return await read_state(session, room_id, viewer=Viewer(user.user_id, user.device_id), now_ms=now_ms)


@router.get("/rooms/{room_id}/members")
async def get_members(
    room_id: RoomID,
    user: CurrentUser,
    session: Reading,
    now_ms: Now,
    at: str | None = None,
    membership: Annotated[Membership | None, Query()] = None,
    not_membership: Annotated[Membership | None, Query()] = None,
) -> dict[str, Any]:
    chunk = await members_of(
        session,
        room_id,
        viewer=Viewer(user.user_id, user.device_id),
        at=at,
        only=membership,
        without=not_membership,
        now_ms=now_ms,
    )
    return {"chunk": chunk}


@router.get("/rooms/{room_id}/joined_members")
async def get_joined_members(room_id: RoomID, user: CurrentUser, session: Reading) -> dict[str, Any]:
    return {"joined": await joined_members(session, room_id, user.user_id)}


@router.put("/rooms/{room_id}/state/{event_type}/{state_key:path}")
@router.put("/rooms/{room_id}/state/{event_type}")
async def put_state(
    room_id: RoomID,
    event_type: Text,
    body: dict[str, Any],
    user: CurrentUser,
    members: OpenMembers,
    now_ms: Now,
    state_key: Text = "",
) -> dict[str, Any]:
    if event_type == MEMBER:
        return {"event_id": await put_membership(members, user.user_id, room_id, state_key, body)}
    if event_type == CANONICAL_ALIAS and state_key == "":
        # Other servers may have to be asked, for which no transaction is kept open.
        await check_canonical_alias(members.database, members.calls, room_id, body)
    async with members.database.transaction() as session:
        event_id = await send_state(
            session, members.timeline, user.user_id, room_id, (event_type, state_key), body, now_ms=now_ms
        )
    return {"event_id": event_id}


@router.put("/rooms/{room_id}/send/{event_type}/{txn_id:path}")
async def put_message(
    room_id: RoomID,
    event_type: Text,
    txn_id: Text,
    body: dict[str, Any],
    user: CurrentUser,
    session: Transaction,
    timeline: OpenTimeline,
    now_ms: Now,
) -> dict[str, Any]:
    event_id = await send_message(session, timeline, user, room_id, event_type, body, txn_id, now_ms=now_ms)
    return {"event_id": event_id}


@router.post("/rooms/{room_id}/send/{event_type}")
async def post_message(
    room_id: RoomID,
    event_type: Text,
    body: dict[str, Any],
    user: CurrentUser,
    session: Transaction,
    timeline: OpenTimeline,
    now_ms: Now,
) -> dict[str, Any]:
    """Without a transaction ID: how clients sent events before the specification, and how some tests still do."""
    return {"event_id": await send_message(session, timeline, user, room_id, event_type, body, None, now_ms=now_ms)}


@router.post("/rooms/{room_id}/redact/{event_id}")
async def post_redaction(
    room_id: RoomID,
    event_id: Text,
    body: dict[str, Any],
    user: CurrentUser,
    session: Transaction,
    timeline: OpenTimeline,
    now_ms: Now,
) -> dict[str, Any]:
    """Without a transaction ID, likewise."""
    return {"event_id": await send_redaction(session, timeline, user, room_id, event_id, body, None, now_ms=now_ms)}


@router.put("/rooms/{room_id}/redact/{event_id}/{txn_id:path}")
async def put_redaction(
    room_id: RoomID,
    event_id: Text,
    txn_id: Text,
    body: dict[str, Any],
    user: CurrentUser,
    session: Transaction,
    timeline: OpenTimeline,
    now_ms: Now,
) -> dict[str, Any]:
    redaction = await send_redaction(session, timeline, user, room_id, event_id, body, txn_id, now_ms=now_ms)
    return {"event_id": redaction}
