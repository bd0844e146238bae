"""Catching up with a peer: its whole log over HTTP, verified, merged, indexed."""

import asyncio
import resource
from collections.abc import AsyncIterator
from ipaddress import ip_network
from pathlib import Path
from time import perf_counter

from benchmarks import data
from benchmarks.processes import identity_server, in_process
from benchmarks.report import Row
from benchmarks.world import World
from identity_server.identity.replication import store
from identity_server.identity.replication.client import PeerClient
from identity_server.identity.replication.exchange import pull
from identity_server.identity.replication.membership import add_peer, introduce
from identity_server.identity.replication.receive import Peers
from identity_server.identity.replication.rules import Rules
from identity_server.identity.signing.keyring import load_keyring
from identity_server.runtime.clock import SystemClock
from identity_server.runtime.safe_http import SafeHttp
from identity_server.runtime.tokens import SystemEntropy
from identity_server.settings import FederationSettings

_TAKER = "taker.test"


async def replication(world: World) -> AsyncIterator[Row]:
    size = world.sizes.replicated
    url, folder = f"sqlite:///{world.folder / 'replicated.db'}", world.folder / "taker"
    world.say(f"importing {size:,} to be replicated")
    await data.fill(url, 0, size)
    folder.mkdir()
    keyring = load_keyring(_TAKER, folder / "signing.key", SystemEntropy())
    database = await data.open_database(url)
    try:
        async with database.transaction() as session:
            keys = [keyring.current.verify_key]
            await add_peer(
                session, _TAKER, "http://127.0.0.1:1", keys, rules=Rules(), expires_ts=None, now_ms=_now_ms()
            )
    finally:
        await database.close()
    world.say("catching up")
    async with identity_server(world.folder / "replication", url) as server:
        seconds, taken, before_mib, after_mib = await in_process(_catch_up, folder, server.port)
    assert taken == size
    yield Row(
        f"replication: catching up with {size:,} statements",
        f"{size / seconds:,.0f} rows/s; RSS {before_mib:.0f} MiB before, {after_mib:.0f} MiB at most",
        f"{size / seconds / 20_000:.2f} of the goal",
        "≥ 20,000 rows/s",
        size / seconds >= 20_000,
        {"rows_per_s": size / seconds, "rss_before_mib": before_mib, "rss_peak_mib": after_mib},
    )


def _now_ms() -> int:
    return SystemClock().now_ms()


def _rss_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _catch_up(folder: Path, port: int) -> tuple[float, int, float, float]:
    return asyncio.run(_pull(folder, f"http://127.0.0.1:{port}"))


async def _pull(folder: Path, base_url: str) -> tuple[float, int, float, float]:
    keyring = load_keyring(_TAKER, folder / "signing.key", SystemEntropy())
    database = await data.open_database(f"sqlite:///{folder / 'identity.db'}")
    settings = FederationSettings(allowed_private_networks=(ip_network("127.0.0.0/8"),))
    try:
        async with SafeHttp(settings) as http:
            client = PeerClient(http, keyring)
            keys = await introduce(client, base_url, data.NAME)
            async with database.transaction() as session:
                await add_peer(session, data.NAME, base_url, keys, rules=Rules(), expires_ts=None, now_ms=_now_ms())
            async with database.reading() as session:
                peer = await store.find_peer(session, data.NAME)
            assert peer is not None
            before = _rss_mib()
            began = perf_counter()
            taken = await pull(peer, client, Peers(database, client, SystemClock(), max_skew_ms=300_000))
            return perf_counter() - began, taken, before, _rss_mib()
    finally:
        await database.close()
