"""What clients and servers ask before anything else (Client-Server API, "Server Discovery")."""

from typing import Any

from fastapi import APIRouter

from identity_server.runtime.dependencies import OpenSettings
from identity_server.settings import Settings

VERSIONS = ["r0.6.1", *(f"v1.{minor}" for minor in range(1, 20))]

router = APIRouter(tags=["discovery"])


@router.get("/_matrix/client/versions")
async def get_versions() -> dict[str, Any]:
    return {"versions": VERSIONS, "unstable_features": {}}


@router.get("/.well-known/matrix/client")
async def get_client_configuration(settings: OpenSettings) -> dict[str, Any]:
    return client_configuration(settings)


@router.get("/.well-known/matrix/server")
async def get_server_configuration(settings: OpenSettings) -> dict[str, str]:
    """Server-Server API, "Resolving server names": for servers that know the name and no port."""
    homeserver = settings.homeserver
    host = homeserver.name if homeserver.name.endswith("]") else homeserver.name.partition(":")[0]
    return {"m.server": homeserver.federation_address or f"{host}:{homeserver.federation_port}"}


def client_configuration(settings: Settings) -> dict[str, Any]:
    """Where clients find this homeserver, and the identity server that it recommends."""
    configuration = {"m.homeserver": {"base_url": settings.homeserver_base_url}}
    if settings.homeserver.identity_servers:
        first = settings.homeserver.identity_servers[0].rstrip("/")
        configuration["m.identity_server"] = {"base_url": first if "://" in first else f"https://{first}"}
    return configuration
