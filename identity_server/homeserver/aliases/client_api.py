"""Aliases, and whether a room stands in the directory (Client-Server API, "Room aliases", "Room discovery")."""

from typing import Any, Literal

from fastapi import APIRouter

from identity_server.homeserver.access.current import CurrentUser
from identity_server.homeserver.aliases import store
from identity_server.homeserver.aliases.change import add_alias, remove_alias
from identity_server.homeserver.aliases.publish import set_published
from identity_server.homeserver.aliases.resolve import resolve
from identity_server.homeserver.federation.calls import OpenFederation
from identity_server.homeserver.timeline import store as timeline_store
from identity_server.homeserver.timeline.timeline import OpenTimeline
from identity_server.matrix.errors import NotFound
from identity_server.matrix.identifiers import RoomID, Text
from identity_server.runtime.dependencies import Now, OpenDatabase, Reading, Transaction
from identity_server.runtime.requests import Body, JsonRoute

router = APIRouter(tags=["aliases"], route_class=JsonRoute)


class Mapping(Body):
    room_id: RoomID


class Visibility(Body):
    visibility: Literal["public", "private"] = "public"


@router.put("/directory/room/{alias:path}")
async def put_alias(
    alias: Text, body: Mapping, user: CurrentUser, session: Transaction, timeline: OpenTimeline, now_ms: Now
) -> dict[str, Any]:
    await add_alias(session, alias, body.room_id, user.user_id, server_name=timeline.server_name, now_ms=now_ms)
    return {}


@router.get("/directory/room/{alias:path}")
async def get_alias(alias: Text, database: OpenDatabase, calls: OpenFederation) -> dict[str, Any]:
    return await resolve(database, calls, alias)


@router.delete("/directory/room/{alias:path}")
async def delete_alias(
    alias: Text, user: CurrentUser, session: Transaction, timeline: OpenTimeline, now_ms: Now
) -> dict[str, Any]:
    await remove_alias(session, timeline, alias, user.user_id, now_ms=now_ms)
    return {}


@router.get("/directory/list/room/{room_id}")
async def get_visibility(room_id: RoomID, session: Reading) -> dict[str, Any]:
    if await timeline_store.find_room(session, room_id) is None:
        raise NotFound("Room not found")
    return {"visibility": "public" if await store.is_published(session, room_id) else "private"}


@router.put("/directory/list/room/{room_id}")
async def put_visibility(
    room_id: RoomID, body: Visibility, user: CurrentUser, session: Transaction, now_ms: Now
) -> dict[str, Any]:
    published = body.visibility == "public"
    await set_published(session, room_id, user.user_id, published=published, now_ms=now_ms)
    return {}
