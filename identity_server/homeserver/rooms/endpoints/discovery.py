"""Finding rooms: the directory, spaces, summaries, and what was said in one's own."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.access.current import CurrentUser
from identity_server.homeserver.aliases import store as aliases
from identity_server.homeserver.aliases.resolve import resolve
from identity_server.homeserver.federation.calls import OpenFederation
from identity_server.homeserver.rooms.directory import Search, find_published
from identity_server.homeserver.rooms.elsewhere import published_elsewhere
from identity_server.homeserver.rooms.rights import view_of
from identity_server.homeserver.rooms.search import search_rooms
from identity_server.homeserver.rooms.spaces import OpenSpaces, Walk
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.client_format import Viewer
from identity_server.homeserver.timeline.timeline import OpenTimeline
from identity_server.matrix.errors import NotFound
from identity_server.matrix.identifiers import RoomID, Text
from identity_server.runtime.dependencies import Now, OpenDatabase, Reading
from identity_server.runtime.requests import Body, JsonRoute

router = APIRouter(tags=["rooms"], route_class=JsonRoute)
router_v1 = APIRouter(tags=["rooms"], route_class=JsonRoute)


class DirectoryFilter(Body):
    generic_search_term: str | None = None
    room_types: list[str | None] | None = None


class DirectorySearch(Body):
    limit: int | None = None
    since: str | None = None
    filter: DirectoryFilter | None = None
    include_all_networks: bool = False
    third_party_instance_id: str | None = None

    @property
    def search(self) -> Search:
        wanted = self.filter or DirectoryFilter()
        types = None if wanted.room_types is None else tuple(wanted.room_types)
        return Search(self.limit, self.since, wanted.generic_search_term, types)


@router.get("/publicRooms")
async def get_public_rooms(
    session: Reading,
    calls: OpenFederation,
    limit: int | None = None,
    since: str | None = None,
    server: str | None = None,
) -> dict[str, Any]:
    search = Search(limit, since)
    if server and server != calls.keys.server_name:
        return await published_elsewhere(calls, server, search)
    return await find_published(session, search)


@router.post("/publicRooms")
async def post_public_rooms(
    body: DirectorySearch, _user: CurrentUser, session: Reading, calls: OpenFederation, server: str | None = None
) -> dict[str, Any]:
    if server and server != calls.keys.server_name:
        return await published_elsewhere(calls, server, body.search)
    return await find_published(session, body.search)


@router.get("/rooms/{room_id}/aliases")
async def get_aliases(room_id: RoomID, user: CurrentUser, session: Reading) -> dict[str, Any]:
    await view_of(session, room_id, user.user_id)
    return {"aliases": await aliases.aliases_of(session, room_id)}


@router.post("/search")
async def search(
    body: dict[str, Any],
    user: CurrentUser,
    session: Reading,
    timeline: OpenTimeline,
    now_ms: Now,
    next_batch: str | None = None,
) -> dict[str, Any]:
    viewer = Viewer(user.user_id, user.device_id)
    return await search_rooms(session, timeline, body, next_batch, viewer=viewer, now_ms=now_ms)


@router_v1.get("/rooms/{room_id}/hierarchy")
async def get_hierarchy(
    room_id: RoomID,
    user: CurrentUser,
    spaces: OpenSpaces,
    suggested_only: bool = False,
    limit: Annotated[int | None, Query(ge=1)] = None,
    max_depth: Annotated[int | None, Query(ge=0)] = None,
    from_: Annotated[str | None, Query(alias="from")] = None,
) -> dict[str, Any]:
    return await spaces.hierarchy(room_id, user.user_id, Walk.read(from_, suggested_only, max_depth, limit))


@router_v1.get("/room_summary/{room:path}")
async def get_summary(
    room: Text,
    user: CurrentUser,
    spaces: OpenSpaces,
    database: OpenDatabase,
    calls: OpenFederation,
    via: Annotated[Sequence[str], Query()] = (),
) -> dict[str, Any]:
    servers, room_id = list(via), room
    if room.startswith("#"):
        found = await resolve(database, calls, room)
        room_id, servers = found["room_id"], [*servers, *found["servers"]]
    others = tuple(server for server in servers if server != calls.keys.server_name)
    summary = await spaces.summary(room_id, others, user.user_id)
    if summary is None:
        raise NotFound("Room not found.")
    async with database.reading() as session:
        membership = await _membership(session, room_id, user.user_id)
    return {**summary, "membership": membership}


async def _membership(session: AsyncSession, room_id: str, user_id: str) -> str:
    return await store.membership(session, room_id, user_id) or "leave"
