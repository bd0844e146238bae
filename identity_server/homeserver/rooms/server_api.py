"""Our published rooms and spaces, for other servers (Server-Server API, "Published Room Directory", "Spaces")."""

from typing import Any

from fastapi import APIRouter

from identity_server.homeserver.federation.requester import Origin
from identity_server.homeserver.rooms.directory import Search, find_published
from identity_server.homeserver.rooms.endpoints.discovery import DirectorySearch
from identity_server.homeserver.rooms.spaces_for_servers import hierarchy
from identity_server.homeserver.timeline.timeline import OpenTimeline
from identity_server.matrix.identifiers import RoomID
from identity_server.runtime.dependencies import Reading
from identity_server.runtime.requests import JsonRoute

router = APIRouter(prefix="/_matrix/federation/v1", tags=["rooms"], route_class=JsonRoute)


@router.get("/publicRooms")
async def get_public_rooms(
    _origin: Origin, session: Reading, limit: int | None = None, since: str | None = None
) -> dict[str, Any]:
    return await find_published(session, Search(limit, since))


@router.post("/publicRooms")
async def search_public_rooms(_origin: Origin, body: DirectorySearch, session: Reading) -> dict[str, Any]:
    return await find_published(session, body.search)


@router.get("/hierarchy/{room_id}")
async def get_hierarchy(
    origin: Origin, room_id: RoomID, session: Reading, timeline: OpenTimeline, suggested_only: bool = False
) -> dict[str, Any]:
    return await hierarchy(session, timeline.server_name, origin, room_id, suggested_only=suggested_only)
