"""What is open while the homeserver speaks with others."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from identity_server.homeserver.federation.backfill import Backfill
from identity_server.homeserver.federation.calls import FederationCalls
from identity_server.homeserver.federation.edus import Edus
from identity_server.homeserver.federation.fetch import Fetch
from identity_server.homeserver.federation.handshakes import Handshakes
from identity_server.homeserver.federation.invited import Invitations
from identity_server.homeserver.federation.joins import RemoteRooms
from identity_server.homeserver.federation.keyring import KeyRing
from identity_server.homeserver.federation.later import Later
from identity_server.homeserver.federation.receive import Receiver
from identity_server.homeserver.federation.sender import Sender
from identity_server.homeserver.federation.transactions import Transactions
from identity_server.homeserver.timeline.timeline import Timeline
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
    timeline: Timeline,
    edus: Edus,
    clock: Clock,
    entropy: Entropy,
    *,
    background: bool,
) -> AsyncIterator[dict[str, Any]]:
    """By the names that the application keeps them under.

    ``edus``: who is told of incoming ones. ``background``: whether anything is sent by itself.
    """
    async with AsyncExitStack() as stack:
        network = await stack.enter_async_context(open_federation(settings, clock, entropy))
        calls = FederationCalls(network.client, timeline.keys)
        key_ring = KeyRing(database, calls, timeline.keys, now_ms=clock.now_ms, notaries=settings.trusted_key_servers)
        sender = Sender(database, timeline.streams, calls, clock, holder=entropy.token(_HOLDER_LENGTH))
        receiver = Receiver(database, timeline, Fetch(calls, key_ring))
        later = Later(receiver)
        if background:
            await stack.enter_async_context(running(sender.run_forever, later.run_forever))
        yield {
            "http": network.http,
            "federation_calls": calls,
            "key_ring": key_ring,
            "federation_sender": sender,
            "receiver": receiver,
            "transactions": Transactions(database, clock, receiver, edus, later),
            "handshakes": Handshakes(receiver),
            "invitations": Invitations(receiver),
            "remote_rooms": RemoteRooms(receiver, clock),
            "backfill": Backfill(receiver, clock),
        }
