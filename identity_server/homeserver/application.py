"""The homeserver's composition root: from settings to a running application."""

from collections.abc import AsyncIterator, MutableMapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp

from identity_server.homeserver.access.last_seen import LastSeen
from identity_server.homeserver.accounts.passwords import Passwords
from identity_server.homeserver.deactivation.deactivate import LEAVE, Deactivation
from identity_server.homeserver.encryption.incoming import incoming_edus as encryption_edus
from identity_server.homeserver.encryption.opening import device_list_loops
from identity_server.homeserver.encryption.watching import device_watchers
from identity_server.homeserver.federation.opening import open_with_others
from identity_server.homeserver.keys import load_server_keys
from identity_server.homeserver.media.client_api import UPLOADS
from identity_server.homeserver.media.files import MediaFiles
from identity_server.homeserver.media.remote import RemoteMedia
from identity_server.homeserver.media.repository import Repository
from identity_server.homeserver.profiles.spread import SPREAD, Spreading
from identity_server.homeserver.push.gateway import PUSH, Gateways
from identity_server.homeserver.push.pushers import forget_devices as forget_pushers
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

State = MutableMapping[str, Any]

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
        limits = RateLimits(settings.rate_limits)
        passwords = parts.get("passwords") or Passwords(entropy)
        stack.callback(passwords.close)
        keys = load_server_keys(settings.homeserver.name, settings.homeserver_data_dir / "signing.key", entropy)
        streams = Streams()
        timeline = Timeline(keys, streams)
        with_sync = await stack.enter_async_context(open_sync(database, timeline, clock, background=background))
        edus = {
            **encryption_edus(streams, clock, server_name=settings.homeserver.name),
            **sync_edus(with_sync, streams, clock),
        }
        with_others = await stack.enter_async_context(
            open_with_others(settings.federation, database, timeline, edus, clock, entropy, background=background)
        )
        last_seen = LastSeen(database)
        http, calls = parts.get("http", with_others["http"]), with_others["federation_calls"]
        trusted = TrustedServers.configured(settings.homeserver.identity_servers)
        unbinder = Unbinder(http, keys, trusted)
        own_account = OwnAccount(
            database,
            http,
            trusted,
            server_name=settings.homeserver.name,
            clock=clock,
            entropy=entropy,
        )
        spreading = Spreading(database, timeline, clock)
        handlers: dict[str, Handler] = {
            TAKE_UP: TakingUp(database, timeline, calls, http, clock).run,
            UNBIND: unbinder.run,
            SPREAD: spreading.run,
            PUSH: Gateways(database, http, clock).run,
        }
        tasks = Tasks(database, clock, handlers)
        pushing = Pushing(database, with_sync["sync"], tasks, clock)
        files = MediaFiles(settings.homeserver_data_dir / "media", entropy)
        remote_media = RemoteMedia(database, files, calls, http, clock, max_bytes=settings.homeserver.max_upload_bytes)
        media = Repository(database, files, remote_media, streams, settings.homeserver, clock, entropy)
        alone = partial(once_at_a_time, database=database, clock=clock, holder=entropy.token(_HOLDER_LENGTH))
        if background:
            await stack.enter_async_context(
                running(
                    tasks.run_forever,
                    last_seen.run_forever,
                    alone("media", media.purge, every_ms=_PURGE_EVERY_MS),
                    alone("push", pushing.look, every_ms=PUSH_EVERY_MS),
                )
            )
            device_lists = device_list_loops(
                database,
                streams,
                with_others["federation_calls"],
                clock,
                server_name=settings.homeserver.name,
                holder=entropy.token(_HOLDER_LENGTH),
            )
            await stack.enter_async_context(running(*device_lists))
        stack.push_async_callback(last_seen.write)
        watchers = device_watchers(streams)
        watchers = replace(watchers, gone=(*watchers.gone, forget_pushers))
        rooms = open_rooms(
            database,
            timeline,
            with_others["remote_rooms"],
            with_others["backfill"],
            calls,
            http,
            trusted,
            clock,
        )
        deactivation = Deactivation(database, rooms["members"], unbinder, watchers, tasks)
        handlers[LEAVE] = deactivation.run
        yield {
            "resources": Resources(settings, database, clock, entropy, limits),
            "server_keys": keys,
            "streams": streams,
            "timeline": timeline,
            **with_others,
            **with_sync,
            **rooms,
            "deactivation": deactivation,
            "last_seen": last_seen,
            "device_watchers": watchers,
            "own_account": own_account,
            "unbinder": unbinder,
            "spreading": spreading,
            "media": media,
            "tasks": tasks,
            **parts,
            "passwords": passwords,
        }


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
        larger_bodies=dict.fromkeys(UPLOADS, settings.homeserver.max_upload_bytes),
    )
