"""The homeserver's table of contents: first what clients ask, then what servers ask."""

from collections.abc import Iterable

from fastapi import APIRouter

from identity_server.homeserver import capabilities, discovery
from identity_server.homeserver.account_data import client_api as account_data
from identity_server.homeserver.accounts import client_api as accounts
from identity_server.homeserver.aliases import client_api as aliases
from identity_server.homeserver.aliases import server_api as aliases_for_servers
from identity_server.homeserver.deactivation import client_api as deactivation
from identity_server.homeserver.devices import client_api as devices
from identity_server.homeserver.encryption import client_api as encryption
from identity_server.homeserver.encryption import server_api as encryption_for_servers
from identity_server.homeserver.federation import server_api as federation
from identity_server.homeserver.media import client_api as media
from identity_server.homeserver.media import server_api as media_for_servers
from identity_server.homeserver.openid import client_api as openid_for_clients
from identity_server.homeserver.openid import server_api as openid_for_servers
from identity_server.homeserver.password_change import client_api as password_change
from identity_server.homeserver.presence import client_api as presence
from identity_server.homeserver.profiles import client_api as profiles
from identity_server.homeserver.profiles import server_api as profiles_for_servers
from identity_server.homeserver.push import client_api as push
from identity_server.homeserver.receipts import client_api as receipts
from identity_server.homeserver.registration import client_api as registration
from identity_server.homeserver.registration import fallback as registration_pages
from identity_server.homeserver.rooms import client_api as rooms
from identity_server.homeserver.rooms import server_api as rooms_for_servers
from identity_server.homeserver.sync import client_api as sync
from identity_server.homeserver.threepids import client_api as threepids_for_clients
from identity_server.homeserver.threepids import exchange
from identity_server.homeserver.threepids import server_api as threepids
from identity_server.homeserver.typing import client_api as typing
from identity_server.homeserver.user_directory import client_api as user_directory
from identity_server.homeserver.validation import client_api as validation
from identity_server.runtime.routing import include

_CLIENT = (
    sync.router,  # first, for it is asked most: routes are looked through in order
    accounts.router,
    registration.router,
    registration_pages.router,
    capabilities.router,
    devices.router,
    password_change.router,
    deactivation.router,
    threepids_for_clients.router,
    rooms.router,
    aliases.router,
    profiles.router,
    user_directory.router,
    encryption.router,
    openid_for_clients.router,
    account_data.router,
    receipts.router,
    typing.router,
    presence.router,
    push.router,
)


# Where clients look for keys that were written before the specification had them.
_UNSTABLE = (encryption.keys_router,)


def _client_api(version: str, routers: Iterable[APIRouter] = _CLIENT) -> APIRouter:
    router = APIRouter(prefix=f"/_matrix/client/{version}")
    include(router, *routers)
    return router


ROUTERS = (
    discovery.router,
    registration.token_router,
    validation.router,
    user_directory.mutual_router,
    _client_api("v3"),
    _client_api("r0"),  # shipped web clients still call it
    _client_api("unstable", _UNSTABLE),
    _client_api(
        "v1",
        (
            accounts.router_v1,
            rooms.router_v1,
        ),
    ),
    *media.ROUTERS,
    federation.router,
    media_for_servers.router,
    profiles_for_servers.router,
    encryption_for_servers.router,
    openid_for_servers.router,
    aliases_for_servers.router,
    rooms_for_servers.router,
    exchange.router,
    threepids.router,
)
