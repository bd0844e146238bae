"""The homeserver's composition root: from settings to a running application."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp

from identity_server.homeserver.access.last_seen import LastSeen
from identity_server.homeserver.access.removal import DeviceWatchers
from identity_server.homeserver.accounts.login_tokens import LoginTokens
from identity_server.homeserver.accounts.passwords import Passwords
from identity_server.homeserver.deactivation.deactivate import LEAVE, Deactivation
from identity_server.homeserver.encryption.incoming import incoming_edus as encryption_edus
from identity_server.homeserver.encryption.opening import device_list_loops
from identity_server.homeserver.encryption.watching import device_watchers
from identity_server.homeserver.federation.opening import open_with_others
from identity_server.homeserver.federation.transaction_api import LARGER_BODIES
from identity_server.homeserver.keys import load_server_keys
from identity_server.homeserver.media.client_api import UPLOADS
from identity_server.homeserver.media.files import MediaFiles
from identity_server.homeserver.media.previews import Previews
from identity_server.homeserver.media.remote import RemoteMedia
from identity_server.homeserver.media.repository import Repository
from identity_server.homeserver.profiles.spread import SPREAD, Spreading
from identity_server.homeserver.push.gateway import PUSH, Gateways
from identity_server.homeserver.push.pushers import forget_devices as forget_pushers
from identity_server.homeserver.registration.begun import BegunRegistrations
from identity_server.homeserver.rooms.opening import open_rooms
from identity_server.homeserver.routes import ROUTERS
from identity_server.homeserver.streams import Streams
from identity_server.homeserver.sync.opening import incoming_edus as sync_edus
from identity_server.homeserver.sync.opening import open_sync
from identity_server.homeserver.sync.pushing import EVERY_MS as PUSH_EVERY_MS
from identity_server.homeserver.sync.pushing import Pushing
from identity_server.homeserver.threepids.take_up import TAKE_UP, TakingUp
from identity_server.homeserver.threepids.unbind import UNBIND, Unbinder
from identity_server.homeserver.timeline.timeline import Timeline
from identity_server.homeserver.validation.own_account import OwnAccount
from identity_server.homeserver.validation.trusted import TrustedServers
from identity_server.matrix.errors import MissingParam
from identity_server.runtime.application import make_application
from identity_server.runtime.background import once_at_a_time, running
from identity_server.runtime.clock import Clock, SystemClock
from identity_server.runtime.database import Database
from identity_server.runtime.migrations import prepare
from identity_server.runtime.rate_limits import RateLimits
from identity_server.runtime.resources import Resources
from identity_server.runtime.tasks import Handler, Tasks
from identity_server.runtime.tokens import Entropy, SystemEntropy
from identity_server.settings import Settings

State = dict[str, Any]
Loop = Callable[[], Awaitable[None]]

_HOLDER_LENGTH = 16
_PURGE_EVERY_MS = 3_600_000


@asynccontextmanager
async def open_homeserver(
    settings: Settings,
    *,
    clock: Clock | None = None,
    entropy: Entropy | None = None,
    background: bool = True,
    **parts: Any,
) -> AsyncIterator[dict[str, Any]]:
    """What the homeserver keeps open, by name; ``parts`` replace what would be opened under the same name.

    ``background``: whether its loops run meanwhile.
    """
    clock, entropy = clock or SystemClock(), entropy or SystemEntropy()
    async with AsyncExitStack() as stack:
        database = Database(settings.homeserver_database_url, pool_size=settings.database.pool_size)
        stack.push_async_callback(database.close)
        await prepare(database, "homeserver")
        passwords = parts.get("passwords") or Passwords(entropy)
        stack.callback(passwords.close)
        keys = load_server_keys(settings.homeserver.name, settings.homeserver_data_dir / "signing.key", entropy)
        timeline = Timeline(keys, Streams())
        with_sync = await stack.enter_async_context(open_sync(database, timeline, clock, background=background))
        edus = {
            **encryption_edus(timeline.streams, clock, server_name=keys.server_name),
            **sync_edus(with_sync, timeline.streams, clock),
        }
        with_others = await stack.enter_async_context(
            open_with_others(settings.federation, database, timeline, edus, clock, entropy, background=background)
        )
        last_seen = LastSeen(database)
        stack.push_async_callback(last_seen.write)
        opened: dict[str, Any] = {
            "resources": Resources(settings, database, clock, entropy, RateLimits(settings.rate_limits)),
            "server_keys": keys,
            "streams": timeline.streams,
            "timeline": timeline,
            "last_seen": last_seen,
            "device_watchers": _device_watchers(timeline.streams),
            "trusted_servers": TrustedServers.configured(settings.homeserver.identity_servers),
            **with_sync,
            **with_others,
            **parts,
            "passwords": passwords,
            "login_tokens": LoginTokens(),
            "begun_registrations": BegunRegistrations(),
        }
        opened |= _for_addresses(opened) | _for_media(opened)
        opened |= open_rooms(opened)
        opened |= _for_later(opened)
        if background:
            await stack.enter_async_context(running(*_loops(opened)))
        yield opened | parts


def _device_watchers(streams: Streams) -> DeviceWatchers:
    watchers = device_watchers(streams)
    return replace(watchers, gone=(*watchers.gone, forget_pushers))


def _for_addresses(opened: State) -> State:
    """What speaks with identity servers."""
    resources: Resources = opened["resources"]
    trusted: TrustedServers = opened["trusted_servers"]
    own_account = OwnAccount(
        resources.database,
        opened["http"],
        trusted,
        server_name=resources.settings.homeserver.name,
        clock=resources.clock,
        entropy=resources.entropy,
    )
    return {"own_account": own_account, "unbinder": Unbinder(opened["http"], opened["server_keys"], trusted)}


def _for_media(opened: State) -> State:
    resources: Resources = opened["resources"]
    settings, database, clock = resources.settings, resources.database, resources.clock
    files = MediaFiles(settings.homeserver_data_dir / "media", resources.entropy)
    remote = RemoteMedia(
        database,
        files,
        opened["federation_calls"],
        opened["http"],
        clock,
        max_bytes=settings.homeserver.max_upload_bytes,
    )
    repository = Repository(database, files, remote, opened["streams"], settings.homeserver, clock, resources.entropy)
    return {"media": repository, "previews": Previews(opened["http"], repository, clock)}


def _for_later(opened: State) -> State:
    """What is done after the request that asked for it: durable tasks, and who gives them."""
    resources: Resources = opened["resources"]
    database, clock, timeline, http = resources.database, resources.clock, opened["timeline"], opened["http"]
    handlers: dict[str, Handler] = {}
    tasks = Tasks(database, clock, handlers)
    spreading = Spreading(database, timeline, clock)
    deactivation = Deactivation(
        database, opened["members"], opened["unbinder"], opened["device_watchers"], opened["attendance"], tasks
    )
    taking_up = TakingUp(database, timeline, opened["federation_calls"], http, clock)
    handlers |= {
        TAKE_UP: taking_up.run,
        UNBIND: opened["unbinder"].run,
        SPREAD: spreading.run,
        PUSH: Gateways(database, http, clock).run,
        LEAVE: deactivation.run,
    }
    return {"tasks": tasks, "spreading": spreading, "deactivation": deactivation, "taking_up": taking_up}


def _loops(opened: State) -> Iterator[Loop]:
    """What runs beside the requests; those alone in one of all processes."""
    resources: Resources = opened["resources"]
    database, clock = resources.database, resources.clock
    holder = resources.entropy.token(_HOLDER_LENGTH)
    alone = partial(once_at_a_time, database=database, clock=clock, holder=holder)
    yield opened["tasks"].run_forever
    yield opened["last_seen"].run_forever
    yield alone("media", opened["media"].purge, every_ms=_PURGE_EVERY_MS)
    yield alone("push", Pushing(database, opened["sync"], opened["tasks"], clock).look, every_ms=PUSH_EVERY_MS)
    yield from device_list_loops(
        database,
        opened["streams"],
        opened["federation_calls"],
        clock,
        server_name=resources.settings.homeserver.name,
        holder=holder,
    )


def homeserver_application(
    settings: Settings, *, clock: Clock | None = None, entropy: Entropy | None = None, **parts: Any
) -> ASGIApp:
    """The homeserver: the Client-Server API and the Server-Server API, for whichever port it is reached through."""

    def lifespan(_app: FastAPI) -> AbstractAsyncContextManager[dict[str, Any]]:
        return open_homeserver(settings, clock=clock, entropy=entropy, **parts)

    return make_application(
        "Homeserver",
        lifespan,
        ROUTERS,
        missing=MissingParam,
        max_body_bytes=settings.server.max_body_bytes,
        larger_bodies={**dict.fromkeys(UPLOADS, settings.homeserver.max_upload_bytes), **LARGER_BODIES},
    )
