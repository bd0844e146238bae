"""What our aliases stand for, for other servers (Server-Server API, "Querying for information")."""

from typing import Any

from fastapi import APIRouter

from identity_server.homeserver.aliases.resolve import check_alias, resolve_own
from identity_server.homeserver.federation.requester import Origin
from identity_server.matrix.errors import NotFound
from identity_server.runtime.dependencies import OpenSettings, Reading

router = APIRouter(prefix="/_matrix/federation/v1/query", tags=["rooms"])


@router.get("/directory")
async def query_directory(_origin: Origin, room_alias: str, session: Reading, settings: OpenSettings) -> dict[str, Any]:
    if check_alias(room_alias) != settings.homeserver.name:
        raise NotFound("Room alias not found")
    return await resolve_own(session, room_alias, settings.homeserver.name)
