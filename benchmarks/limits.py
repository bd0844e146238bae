"""L1 to L4: what the machine and the libraries below us can do at most, measured beside us."""

import asyncio
import base64
import hashlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from time import perf_counter, thread_time

import asyncpg
from nacl.signing import SigningKey

from benchmarks import data
from benchmarks.load import Load, request, run
from benchmarks.processes import Server, reference
from benchmarks.report import Row
from benchmarks.world import World


async def limits(world: World) -> AsyncIterator[Row]:
    for application in ("raw", "fastapi"):
        world.say(f"L1: {application}")
        cpu_us, per_second = await http(world, application)
        work = {"raw": "a raw ASGI application", "fastapi": "FastAPI, prepared Response"}[application]
        yield Row(
            f"L1: {work}, 16 connections",
            f"{per_second:,.0f} requests/s, {cpu_us:.0f} µs of CPU each",
            figures={"requests_per_s": per_second, "cpu_us": cpu_us},
        )
    world.say("L3: durable commits")
    commits = {"SQLite": sqlite_commits(world.folder, world.sizes.seconds)}
    for connections in (1, 16):
        per_second = await postgresql_commits(world.postgresql_server(), connections, world.sizes.seconds)
        commits[f"PostgreSQL, {connections} connections"] = per_second
    for engine, per_second in commits.items():
        yield Row(f"L3: one-row commits, {engine}", f"{per_second:,.0f}/s", figures={"commits_per_s": per_second})
    world.say("L4: cryptography")
    key, message = SigningKey.generate(), b"x" * 200
    signed = key.sign(message)
    crypto: dict[str, Callable[[], object]] = {
        "Ed25519 sign": lambda: key.sign(message),
        "Ed25519 verify": lambda: key.verify_key.verify(signed),
        "SHA-256 and base64": lambda: base64.urlsafe_b64encode(hashlib.sha256(message[:64]).digest()),
    }
    for name, act in crypto.items():
        per_second = 1 / _cpu_seconds(act, 0.3)
        yield Row(f"L4: {name}", f"{per_second:,.0f}/s", figures={"per_s": per_second})


async def http(world: World, application: str) -> tuple[float, float]:
    """Of an application of ``limits_http``: µs of CPU per request, and requests per second with 16 connections."""
    async with reference(application) as server:
        return await cost(server, [request("POST", "/", {})], world.sizes.seconds)


async def cost(server: Server, requests: list[bytes], seconds: float, connections: int = 16) -> tuple[float, float]:
    """µs of the server's CPU per request, and requests per second, once each has been asked: no disk is measured."""
    (await run(Load(server.port, requests, connections, seconds=seconds, once=True))).checked()
    before = server.cpu_seconds()
    outcome = (await run(Load(server.port, requests, connections, seconds))).checked()
    return (server.cpu_seconds() - before) / outcome.answered * 1e6, outcome.per_second


def sqlite_lookup_us(file: Path, slot: int, pepper: str, known: int, size: int, seconds: float) -> float:
    """L2: µs of CPU for the bare query for ``size`` hashes, from the list of them to rows in Python."""
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    statement = (
        f"SELECT hash, user_id FROM json_each(?) CROSS JOIN lookup_{slot} ON hash = value WHERE user_id IS NOT NULL"
    )
    books = [data.address_book(size, known, pepper, seed) for seed in range(10)]
    turn = 0

    def ask() -> None:
        nonlocal turn
        turn += 1
        connection.execute(statement, (data.as_json(books[turn % len(books)]),)).fetchall()

    try:
        for _ in books:  # so that all is in memory
            ask()
        return _cpu_seconds(ask, seconds) * 1e6
    finally:
        connection.close()


async def postgresql_lookup_ms(url: str, slot: int, pepper: str, known: int, size: int, seconds: float) -> float:
    """L2: ms for bare asyncpg's ``= ANY($1)`` with ``size`` hashes, on one connection."""
    connection = await asyncpg.connect(url, server_settings={"jit": "off"})
    statement = f"SELECT hash, user_id FROM lookup_{slot} WHERE hash = ANY($1::text[])"
    books = [data.address_book(size, known, pepper, seed) for seed in range(10)]
    try:
        await connection.fetch(statement, books[0])
        began, turn = perf_counter(), 0
        while perf_counter() - began < seconds:
            await connection.fetch(statement, books[turn % len(books)])
            turn += 1
        return (perf_counter() - began) / turn * 1e3
    finally:
        await connection.close()


def sqlite_commits(folder: Path, seconds: float) -> float:
    """L3: durable one-row transactions per second; SQLite has one writer at a time, whatever the connections."""
    connection = sqlite3.connect(folder / "commits.db", isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE IF NOT EXISTS commits (n INTEGER PRIMARY KEY, text TEXT)")
        began, done = perf_counter(), 0
        while perf_counter() - began < seconds:
            connection.execute("INSERT INTO commits (text) VALUES ('one row')")
            done += 1
        return done / (perf_counter() - began)
    finally:
        connection.close()


async def postgresql_commits(server: str, connections: int, seconds: float) -> float:
    pool = [await asyncpg.connect(server) for _ in range(connections)]
    try:
        await pool[0].execute("CREATE TABLE IF NOT EXISTS commits (n bigserial PRIMARY KEY, text text)")
        began = perf_counter()

        async def commit(connection: asyncpg.Connection) -> int:
            done = 0
            while perf_counter() - began < seconds:
                await connection.execute("INSERT INTO commits (text) VALUES ('one row')")
                done += 1
            return done

        return sum(await asyncio.gather(*map(commit, pool))) / (perf_counter() - began)
    finally:
        for connection in pool:
            await connection.close()


def _cpu_seconds(act: Callable[[], object], seconds: float) -> float:
    """Of one call of ``act``, on average."""
    began, calls = thread_time(), 0
    while (passed := thread_time() - began) < seconds:
        act()
        calls += 1
    return passed / calls
