"""Who this server is to others (Server-Server API, "Server implementation", "Retrieving server keys")."""

from typing import Any

from fastapi import APIRouter

from identity_server import __version__
from identity_server.homeserver.keys import OpenServerKeys
from identity_server.matrix.server_keys import publish
from identity_server.runtime.dependencies import Now

router = APIRouter(tags=["federation"])


@router.get("/_matrix/federation/v1/version")
async def get_version() -> dict[str, Any]:
    return {"server": {"name": "identity-server homeserver", "version": __version__}}


@router.get("/_matrix/key/v2/server")
@router.get("/_matrix/key/v2/server/{key_id}", deprecated=True)
async def get_server_keys(keys: OpenServerKeys, now_ms: Now) -> dict[str, Any]:
    # All keys whichever is asked for, as the specification has it since the parameter is deprecated.
    return publish(keys.server_name, keys.keys, now_ms=now_ms)
