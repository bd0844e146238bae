"""The homeserver's table of contents: first what clients ask, then what servers ask."""

from fastapi import APIRouter

from identity_server.homeserver import capabilities, discovery
from identity_server.homeserver.accounts import client_api as accounts
from identity_server.homeserver.devices import client_api as devices
from identity_server.homeserver.federation import server_api as federation
from identity_server.homeserver.openid import client_api as openid_for_clients
from identity_server.homeserver.openid import server_api as openid_for_servers
from identity_server.homeserver.password_change import client_api as password_change
from identity_server.homeserver.profiles import client_api as profiles
from identity_server.homeserver.registration import client_api as registration
from identity_server.homeserver.threepids import server_api as threepids
from identity_server.homeserver.validation import client_api as validation

_CLIENT = (
    accounts.router,
    registration.router,
    capabilities.router,
    devices.router,
    password_change.router,
    profiles.router,
    openid_for_clients.router,
)


def _client_api(version: str) -> APIRouter:
    router = APIRouter(prefix=f"/_matrix/client/{version}")
    for capability in _CLIENT:
        router.include_router(capability)
    return router


ROUTERS = (
    discovery.router,
    registration.token_router,
    validation.router,
    _client_api("v3"),
    _client_api("r0"),  # shipped web clients still call it
    federation.router,
    openid_for_servers.router,
    threepids.router,
)
