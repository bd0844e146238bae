"""What is open while the homeserver speaks with others."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from identity_server.homeserver.federation.calls import FederationCalls
from identity_server.homeserver.federation.keyring import KeyRing
from identity_server.homeserver.federation.sender import Sender
from identity_server.homeserver.keys import ServerKeys
from identity_server.homeserver.streams import Streams
from identity_server.runtime.background import running
from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database
from identity_server.runtime.federation import open_federation
from identity_server.runtime.tokens import Entropy
from identity_server.settings import FederationSettings

_HOLDER_LENGTH = 16


@asynccontextmanager
async def open_with_others(
    settings: FederationSettings,
    database: Database,
    keys: ServerKeys,
    streams: Streams,
    clock: Clock,
    entropy: Entropy,
    *,
    background: bool,
) -> AsyncIterator[dict[str, Any]]:
    """By the names that the application keeps them under. ``background``: whether anything is sent by itself."""
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(open_federation(settings, clock, entropy))
        calls = FederationCalls(network.client, keys)
        key_ring = KeyRing(database, calls, keys, now_ms=clock.now_ms, notaries=settings.trusted_key_servers)
        sender = Sender(database, streams, calls, clock, holder=entropy.token(_HOLDER_LENGTH))
        if background:
            await stack.enter_async_context(running(sender.run_forever))
        yield {"http": network.http, "federation_calls": calls, "key_ring": key_ring, "federation_sender": sender}
