"""What a process keeps open to reach other servers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from identity_server.matrix.discovery import Discovery
from identity_server.matrix.federation_client import FederationClient
from identity_server.matrix.server_keys import RemoteKeys
from identity_server.runtime.clock import Clock
from identity_server.runtime.dns import Dns
from identity_server.runtime.safe_http import SafeHttp
from identity_server.runtime.tokens import Entropy, SystemEntropy
from identity_server.settings import FederationSettings


@dataclass(frozen=True)
class Federation:
    http: SafeHttp
    discovery: Discovery
    client: FederationClient
    remote_keys: RemoteKeys


@asynccontextmanager
async def open_federation(
    settings: FederationSettings, clock: Clock, entropy: Entropy | None = None
) -> AsyncIterator[Federation]:
    drawn = entropy or SystemEntropy()

    def below(limit: int) -> int:
        # 64 bits are so many that the remainder is as good as even.
        return int.from_bytes(drawn.bytes(8), "big") % limit

    async with SafeHttp(settings) as http:
        discovery = Discovery(http, Dns(), below=below)
        client = FederationClient(http, discovery, now_ms=clock.now_ms, timeout_ms=settings.timeout)
        yield Federation(http, discovery, client, RemoteKeys(client))
