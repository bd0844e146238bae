"""What the tables are filled with: as many people as one likes, each with an address, and the same every time."""

import random
from collections.abc import Iterator
from typing import Any

import orjson
from sqlalchemy import text

from benchmarks.load import request
from identity_server.identity.access.models import AccessToken
from identity_server.identity.lookup.fill import Progress, in_silence
from identity_server.identity.lookup.peppers import ensure_pepper
from identity_server.identity.transfer.bulk import import_bindings
from identity_server.matrix.threepid import EMAIL, lookup_hash
from identity_server.runtime.bulk import insert_rows
from identity_server.runtime.clock import SystemClock
from identity_server.runtime.database import Database
from identity_server.runtime.migrations import prepare
from identity_server.runtime.tokens import SystemEntropy, token_hash

V2 = "/_matrix/identity/v2"
NAME = "is.test"
TOKEN = "benchmark"
# Nobody listens there: what is to be told to this homeserver is tried at once, fails at once, and is put off.
HOMESERVER = "127.0.0.1:1"
READER = f"@reader:{HOMESERVER}"


def address(number: int) -> str:
    return f"person{number:09}@example.org"


def people(start: int, end: int) -> Iterator[bytes]:
    """Lines as an export writes them, in its order."""
    for number in range(start, end):
        yield b'{"medium":"email","address":"%b","mxid":"@person%09d:%b"}\n' % (
            address(number).encode(),
            number,
            HOMESERVER.encode(),
        )


async def open_database(url: str) -> Database:
    """With its tables, a pepper, and an account with ``TOKEN``."""
    database = Database(url)
    await prepare(database, "identity")
    now_ms = SystemClock().now_ms()
    await ensure_pepper(database, SystemEntropy(), now_ms=now_ms)
    async with database.transaction() as session:
        await insert_rows(
            session,
            AccessToken,
            ("token_hash", "user_id", "created_ts"),
            [(token_hash(TOKEN), READER, now_ms)],
            on_conflict="ON CONFLICT DO NOTHING",
        )
    return database


async def fill(url: str, start: int, end: int, progress: Progress = in_silence) -> None:
    """Import the people from ``start`` to ``end``, and gather statistics as PostgreSQL would by itself."""
    database = await open_database(url)
    try:
        await import_bindings(
            database,
            people(start, end),
            server_name=NAME,
            clock=SystemClock(),
            entropy=SystemEntropy(),
            progress=progress,
        )
        if not database.is_sqlite:
            async with database.transaction() as session:
                await session.execute(text("ANALYZE"))
    finally:
        await database.close()


async def pepper_and_slot(url: str) -> tuple[str, int]:
    database = Database(url)
    try:
        pepper = await database.fast.value("SELECT pepper FROM peppers WHERE state = 'current'")
        slot = await database.fast.value("SELECT slot FROM peppers WHERE state = 'current'")
    finally:
        await database.close()
    return pepper, slot


def address_book(size: int, known: int, pepper: str, seed: int) -> list[str]:
    """``size`` hashes: every other one is somebody's among ``known`` people, the rest are nobody's."""
    dice = random.Random(seed)
    numbers = (dice.randrange(known) if turn % 2 else dice.randrange(10**8, 10**9) for turn in range(size))
    return [lookup_hash(address(number), EMAIL, pepper) for number in numbers]


def lookup_requests(size: int, known: int, pepper: str, *, different: int = 20) -> list[bytes]:
    return [lookup_request(address_book(size, known, pepper, seed), pepper) for seed in range(different)]


def lookup_request(hashes: list[str], pepper: str) -> bytes:
    body: dict[str, Any] = {"algorithm": "sha256", "pepper": pepper, "addresses": hashes}
    return request("POST", f"{V2}/lookup", body, token=TOKEN)


def as_json(hashes: list[str]) -> str:
    return orjson.dumps(hashes).decode()
