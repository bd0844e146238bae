"""Catching up with a peer: its whole log over HTTP, verified, merged, indexed; and forgetting it all again."""

import asyncio
import resource
import sqlite3
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from benchmarks import data
from benchmarks.processes import identity_server, in_process
from benchmarks.report import Row, at_least, at_most
from benchmarks.world import World
from identity_server.identity.replication import store
from identity_server.identity.replication.client import PeerClient
from identity_server.identity.replication.exchange import pull
from identity_server.identity.replication.membership import add_peer, introduce
from identity_server.identity.replication.receive import Peers
from identity_server.identity.replication.retire import retire
from identity_server.identity.replication.rules import Rules
from identity_server.identity.signing.keyring import load_keyring
from identity_server.runtime.clock import SystemClock
from identity_server.runtime.database import Database
from identity_server.runtime.safe_http import SafeHttp
from identity_server.runtime.tokens import SystemEntropy
from identity_server.settings import FederationSettings

_TAKER = "taker.test"
_RETIRING_SECONDS = 10
_TAKEN = "SELECT taken_position FROM peers"
_RETIRED = "SELECT coalesce(min(origin_id), 0) - 1 FROM peer_statements"


@dataclass(frozen=True)
class _CaughtUp:
    seconds: float
    cpu_seconds: float
    position: int
    before_mib: float
    peak_mib: float


async def replication(world: World) -> AsyncIterator[Row]:
    """From the main table's own log into an empty peer; then the peer is removed there."""
    size, folder = world.sizes.main, world.folder / "taker"
    url = await world.copy()
    folder.mkdir()
    keyring = load_keyring(_TAKER, folder / "signing.key", SystemEntropy())
    await _trust(url, _TAKER, "http://127.0.0.1:1", [keyring.current.verify_key])
    file = folder / "identity.db"
    async with identity_server(world.folder / "replication", url) as server:
        before = server.cpu_seconds()
        catching_up = in_process(_catch_up, folder, server.port)
        done: _CaughtUp = await _watched(world, "catching up", catching_up, file, _TAKEN, size)
        giver_us = (server.cpu_seconds() - before) / size * 1e6
    assert done.position == size
    assert _value(file, "SELECT count(*) FROM lookup_0") == size
    per_second, taker_us = size / done.seconds, done.cpu_seconds / size * 1e6
    yield Row(
        f"replication: catching up with {size:,} statements",
        f"{per_second:,.0f} rows/s; {taker_us:.0f} µs of CPU a row, the giver's {giver_us:.0f} µs",
        **at_least(20_000, per_second, " rows/s"),
        figures={"rows_per_s": per_second, "cpu_us": taker_us, "giver_cpu_us": giver_us},
    )
    yield Row(
        "RSS of who catches up, at most",
        f"{done.peak_mib:.0f} MiB; {done.before_mib:.0f} MiB before",
        **at_most(300, done.peak_mib, ratio="", written="< 300 MiB"),
        figures={"rss_before_mib": done.before_mib, "rss_peak_mib": done.peak_mib},
    )
    retiring = in_process(_retire, f"sqlite:///{file}")
    seconds, longest_ms = await _watched(world, "retiring", retiring, file, _RETIRED, size)
    left = _value(file, "SELECT count(*) FROM peer_statements")
    assert _value(file, "SELECT count(*) FROM lookup_0") == left < size
    yield Row(
        f"retiring a peer that stated {size:,}, the first {_RETIRING_SECONDS} seconds",
        f"{(size - left) / seconds:,.0f} rows/s; the longest transaction {longest_ms:.0f} ms",
        figures={"rows_per_s": (size - left) / seconds, "longest_ms": longest_ms},
    )


async def _watched(world: World, what: str, work: Awaitable[Any], file: Path, statement: str, size: int) -> Any:
    """What ``work`` answers; meanwhile the bar shows what ``statement`` says."""
    world.say(what)
    began, working = perf_counter(), asyncio.ensure_future(work)
    while not working.done():
        await asyncio.wait([working], timeout=0.5)
        try:
            world.watch(what, _value(file, statement), size, began)
        except sqlite3.OperationalError:
            continue  # the tables are not there yet
    return working.result()


def _value(file: Path, statement: str) -> int:
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        row = connection.execute(statement).fetchone()
        return max(0, int(row[0])) if row else 0
    finally:
        connection.close()


async def _trust(url: str, name: str, base_url: str, keys: list[Any]) -> None:
    database = await data.open_database(url)
    try:
        async with database.transaction() as session:
            now_ms = SystemClock().now_ms()
            await add_peer(session, name, base_url, keys, rules=Rules(), expires_ts=None, now_ms=now_ms)
    finally:
        await database.close()


def _rss_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _catch_up(folder: Path, port: int) -> _CaughtUp:
    return asyncio.run(_pull(folder, f"http://127.0.0.1:{port}"))


async def _pull(folder: Path, base_url: str) -> _CaughtUp:
    keyring = load_keyring(_TAKER, folder / "signing.key", SystemEntropy())
    url = f"sqlite:///{folder / 'identity.db'}"
    settings = FederationSettings(allowed_private_networks=(ip_network("127.0.0.0/8"),))
    async with SafeHttp(settings) as http:
        client = PeerClient(http, keyring)
        await _trust(url, data.NAME, base_url, await introduce(client, base_url, data.NAME))
        database = Database(url)
        try:
            async with database.reading() as session:
                peer = await store.find_peer(session, data.NAME)
            assert peer is not None
            peers = Peers(database, client, SystemClock(), max_skew_ms=300_000)
            before, began, cpu = _rss_mib(), perf_counter(), process_time()
            position = await pull(peer, client, peers)
            return _CaughtUp(perf_counter() - began, process_time() - cpu, position, before, _rss_mib())
        finally:
            await database.close()


class _Timed(Database):
    """Knows how long its longest transaction took: so long did others wait."""

    longest_ms = 0.0

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncSession]:
        async with super().transaction() as session:
            began = perf_counter()
            yield session
        self.longest_ms = max(self.longest_ms, (perf_counter() - began) * 1e3)


def _retire(url: str) -> tuple[float, float]:
    return asyncio.run(_timed_retirement(url))


async def _timed_retirement(url: str) -> tuple[float, float]:
    database = _Timed(url)
    try:
        began = perf_counter()
        with suppress(TimeoutError):
            async with asyncio.timeout(_RETIRING_SECONDS):
                await retire(database, data.NAME, _TAKER)
        return perf_counter() - began, database.longest_ms
    finally:
        await database.close()
