"""Two operators who trust each other's proofs: what `identity-server peers add` does, both ways."""

from identity_server.identity.replication.client import PeerClient
from identity_server.identity.replication.membership import add_peer, introduce
from identity_server.identity.replication.rules import Rules
from identity_server.identity.signing.keyring import load_keyring
from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database
from identity_server.runtime.federation import open_federation
from identity_server.runtime.tokens import Entropy
from identity_server.settings import Settings


async def befriend(one: Settings, other: Settings, clock: Clock, entropy: Entropy) -> None:
    """Both are serving already."""
    for truster, trusted in ((one, other), (other, one)):
        keyring = load_keyring(truster.server.name, truster.signing_key_file, entropy)
        database = Database(truster.database_url)
        try:
            async with open_federation(truster.federation, clock, entropy) as federation:
                client = PeerClient(federation.http, keyring)
                keys = await introduce(client, trusted.public_base_url, trusted.server.name)
            async with database.transaction() as session:
                await add_peer(
                    session,
                    trusted.server.name,
                    trusted.public_base_url,
                    keys,
                    rules=Rules(),
                    expires_ts=None,
                    now_ms=clock.now_ms(),
                )
        finally:
            await database.close()
