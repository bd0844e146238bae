"""The identity server's composition root: from settings to a running application.

What a process keeps open is opened here, in order, and closed in the reverse order. Whoever embeds or tests the
server may hand in a part instead of the real one.
"""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Response
from starlette.types import ASGIApp

from identity_server.identity.bindings.bind import bind
from identity_server.identity.delivery.outlet import Outlet, open_outlet
from identity_server.identity.invites.onbind import ONBIND, send_onbind
from identity_server.identity.invites.store_invite import INVITATION, send_invitation
from identity_server.identity.lookup.peppers import Peppers, ensure_pepper
from identity_server.identity.lookup.schedule import tend_hashes
from identity_server.identity.purge import purge
from identity_server.identity.replication.client import PeerClient
from identity_server.identity.replication.exchange import Exchange
from identity_server.identity.replication.receive import Peers
from identity_server.identity.replication.retire import retire_ended
from identity_server.identity.replication.sydent import api as sydent
from identity_server.identity.replication.sydent.push import SydentPush
from identity_server.identity.replication.sydent.tls import connecting_context
from identity_server.identity.routes import ACTING, SHORTCUTS, routers
from identity_server.identity.signing.keyring import load_keyring
from identity_server.identity.validation.attempts import claim_attempt
from identity_server.matrix.errors import MissingParams
from identity_server.runtime.application import make_application
from identity_server.runtime.background import once_at_a_time, running
from identity_server.runtime.clock import Clock, SystemClock
from identity_server.runtime.database import Database
from identity_server.runtime.federation import open_federation
from identity_server.runtime.metrics import exposition
from identity_server.runtime.migrations import prepare
from identity_server.runtime.rate_limits import RateLimits
from identity_server.runtime.resources import Resources
from identity_server.runtime.safe_http import SafeHttp
from identity_server.runtime.tasks import Tasks
from identity_server.runtime.together import Together
from identity_server.runtime.tokens import Entropy, SystemEntropy
from identity_server.settings import Settings

_PURGE_EVERY_MS = 3_600_000
_TEND_HASHES_EVERY_MS = 60_000
_LOOK_AT_PEERS_EVERY_MS = 200
_RETIRE_EVERY_MS = 60_000


@asynccontextmanager
async def open_identity_server(
    settings: Settings,
    *,
    clock: Clock | None = None,
    entropy: Entropy | None = None,
    background: bool = True,
    **parts: Any,
) -> AsyncIterator[dict[str, Any]]:
    """What the identity server keeps open, by name; ``parts`` replace what would be opened under the same name.

    ``background``: whether its loops run meanwhile.
    """
    clock, entropy = clock or SystemClock(), entropy or SystemEntropy()
    async with AsyncExitStack() as stack:
        database = Database(
            settings.database_url, pool_size=settings.database.pool_size, replica_url=settings.database.replica_url
        )
        stack.push_async_callback(database.close)
        await prepare(database, "identity")
        await ensure_pepper(database, entropy, now_ms=clock.now_ms())
        federation = await stack.enter_async_context(open_federation(settings.federation, clock, entropy))
        outlet: Outlet = (
            parts["outlet"]
            if "outlet" in parts
            else await stack.enter_async_context(open_outlet(settings, clock, entropy, ca_file=settings.email.ca_file))
        )
        homeservers = parts.get("homeservers", federation.client)
        tasks = Tasks(
            database,
            clock,
            {
                INVITATION: partial(send_invitation, outlet=outlet),
                ONBIND: partial(send_onbind, homeservers=homeservers),
            },
        )
        keyring = load_keyring(settings.server.name, settings.signing_key_file, entropy)
        binding = Together(
            database, partial(bind, settings=settings.validation, keyring=keyring, tasks=tasks, clock=clock)
        )
        stack.push_async_callback(binding.finish)
        claiming = Together(
            database, partial(claim_attempt, settings=settings.validation, entropy=entropy, clock=clock)
        )
        stack.push_async_callback(claiming.finish)
        peer_client = PeerClient(parts.get("http", federation.http), keyring)
        peers = Peers(database, peer_client, clock, max_skew_ms=settings.replication.max_clock_skew)
        tls = connecting_context(settings.replication)
        certified_http = await stack.enter_async_context(SafeHttp(settings.federation, tls)) if tls else None
        sydent_push = SydentPush(database, certified_http, keyring, clock)
        exchange = Exchange(database, peer_client, sydent_push, peers, keyring, clock, settings.replication)
        stack.push_async_callback(exchange.finish)
        alone = partial(once_at_a_time, database=database, clock=clock, holder=entropy.token(16))
        if background:
            await stack.enter_async_context(
                running(
                    tasks.run_forever,
                    alone("replication", exchange.run, every_ms=_LOOK_AT_PEERS_EVERY_MS),
                    alone(
                        "retirement", partial(retire_ended, database, settings.server.name), every_ms=_RETIRE_EVERY_MS
                    ),
                    alone("purge", partial(purge, database, settings), every_ms=_PURGE_EVERY_MS),
                    alone(
                        "hashes",
                        partial(tend_hashes, database, settings),
                        every_ms=_TEND_HASHES_EVERY_MS,
                    ),
                )
            )
        yield {
            "resources": Resources(settings, database, clock, entropy, RateLimits(settings.rate_limits)),
            "keyring": keyring,
            "bind": binding,
            "claim_attempt": claiming,
            "peppers": Peppers(database, clock),
            "remote_keys": federation.remote_keys,
            "peers": peers,
            "exchange": exchange,
            "tasks": tasks,
            **parts,
            "outlet": outlet,
            "homeservers": homeservers,
        }


def identity_application(
    settings: Settings,
    *,
    clock: Clock | None = None,
    entropy: Entropy | None = None,
    background: bool = True,
    **parts: Any,
) -> ASGIApp:
    """The identity server; arguments as in ``open_identity_server``."""

    def lifespan(_app: FastAPI) -> AbstractAsyncContextManager[dict[str, Any]]:
        return open_identity_server(settings, clock=clock, entropy=entropy, background=background, **parts)

    return make_application(
        "Identity server",
        lifespan,
        routers(settings),
        missing=MissingParams,
        max_body_bytes=settings.server.max_body_bytes,
        shortcuts=SHORTCUTS,
        acting=ACTING,
    )


def admin_application(settings: Settings, metrics_folder: Path | None) -> ASGIApp:
    """Health, readiness and metrics, for whoever operates the server."""
    metrics = APIRouter()
    metrics.add_api_route("/metrics", partial(exposition, metrics_folder), response_class=Response)
    return _small_application("Identity server: administration", settings, metrics, SystemClock())


def replication_application(settings: Settings, clock: Clock | None = None) -> ASGIApp:
    """What peers that run Sydent push to, behind mutual TLS."""
    return _small_application("Identity server: replication", settings, sydent.router, clock or SystemClock())


def _small_application(title: str, settings: Settings, router: APIRouter, clock: Clock) -> ASGIApp:
    """One that needs nothing but the resources, in a thread beside the server's."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        database = Database(settings.database_url, pool_size=1)
        limits = RateLimits(settings.rate_limits)
        try:
            yield {"resources": Resources(settings, database, clock, SystemEntropy(), limits)}
        finally:
            await database.close()

    return make_application(
        title, lifespan, [router], missing=MissingParams, max_body_bytes=settings.server.max_body_bytes
    )
