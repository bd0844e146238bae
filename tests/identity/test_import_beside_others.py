"""An import takes its time: what happens meanwhile, and what becomes of one that does not come to its end."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from identity_server.identity.lookup import schedule
from identity_server.identity.lookup.imports import AnotherImport, Overtaken
from identity_server.identity.lookup.rotate import rotate
from identity_server.identity.transfer.bulk import Imported, import_bindings
from identity_server.identity.transfer.lines import BadLine, write_line
from tests.world import IdentityServer

V2 = "/_matrix/identity/v2"
ALICE, BOB = "@alice:hs.test", "@bob:hs.test"
STAYS, GOES, MOVES, LATER = (f"{name}@example.org" for name in ("stays", "goes", "moves", "later"))


class Killed(Exception):
    """What an import ends with that is killed."""


def run(server: IdentityServer, lines: Iterator[bytes], *, at_once: int = 3) -> "asyncio.Task[Imported]":
    return asyncio.create_task(
        import_bindings(
            server.database,
            lines,
            server_name="is.test",
            clock=server.clock,
            entropy=server.entropy,
            at_once=at_once,
        )
    )


def line(address: str) -> bytes:
    return write_line(("email", address, ALICE, None))


async def killed(server: IdentityServer) -> None:
    """An import that has stated the first three."""

    def lines() -> Iterator[bytes]:
        yield from map(line, (STAYS, GOES, MOVES))
        raise Killed

    with pytest.raises(Killed):
        await run(server, lines())


@asynccontextmanager
async def under_way(server: IdentityServer) -> AsyncIterator["asyncio.Task[Imported]"]:
    """An import that has stated the first three of four, and goes on when the block ends."""
    go_on = threading.Event()

    def lines() -> Iterator[bytes]:
        yield from map(line, (STAYS, GOES, MOVES))
        go_on.wait(30)
        yield line(LATER)

    task = run(server, lines())
    try:
        async with asyncio.timeout(10):
            while await server.database.fast.value("SELECT count(*) FROM associations WHERE user_id IS NOT NULL") < 3:
                await asyncio.sleep(0.01)
        yield task
    finally:
        go_on.set()


async def unbind(server: IdentityServer, headers: dict[str, str], address: str) -> None:
    threepid = {"medium": "email", "address": address}
    await server.client.post(f"{V2}/3pid/unbind", json={"mxid": ALICE, "threepid": threepid}, headers=headers)


async def everybody(server: IdentityServer, headers: dict[str, str]) -> dict[str, str]:
    return await server.found(headers, STAYS, GOES, MOVES, LATER)


async def test_what_is_unbound_or_bound_meanwhile_wins_over_what_the_import_had_read(server: IdentityServer) -> None:
    headers = await server.account(ALICE)
    async with under_way(server) as task:
        assert await everybody(server, headers) == {}
        await unbind(server, headers, GOES)
        await server.bound(BOB, MOVES)
    assert await task == (4, 0)
    assert await everybody(server, headers) == {STAYS: ALICE, MOVES: BOB, LATER: ALICE}
    assert await server.database.fast.value("SELECT count(*) FROM lookup_0") == 3


async def test_a_rotation_meanwhile_loses_nothing_under_either_pepper(server: IdentityServer) -> None:
    headers = await server.account(ALICE)
    async with under_way(server) as task:
        await rotate(server.database, server.settings.lookup, clock=server.clock, entropy=server.entropy)
        await unbind(server, headers, GOES)
    await task
    server.clock.advance(seconds=2)
    assert await everybody(server, headers) == {STAYS: ALICE, MOVES: ALICE, LATER: ALICE}
    tables = [await server.database.fast.value(f"SELECT count(*) FROM lookup_{slot}") for slot in (0, 1)]
    assert tables == [3, 3]


async def test_a_pepper_that_is_gone_before_the_end_is_left_out(server: IdentityServer) -> None:
    headers = await server.account(ALICE)
    async with under_way(server) as task:
        for _ in range(2):
            await rotate(
                server.database, server.settings.lookup, clock=server.clock, entropy=server.entropy, force=True
            )
    await task
    server.clock.advance(seconds=2)
    assert await everybody(server, headers) == dict.fromkeys((STAYS, GOES, MOVES, LATER), ALICE)
    assert await server.database.fast.value("SELECT count(*) FROM lookup_0") == 4


async def test_there_is_one_import_at_a_time(server: IdentityServer) -> None:
    async with under_way(server) as task:
        with pytest.raises(AnotherImport):
            await run(server, iter([line(LATER)]))
    await task
    assert await run(server, iter([line(LATER)])) == (0, 1)


async def test_the_next_import_finishes_one_that_was_killed(server: IdentityServer) -> None:
    headers = await server.account(ALICE)
    await killed(server)
    await unbind(server, headers, GOES)
    assert await everybody(server, headers) == {}
    assert await run(server, iter([line(LATER)])) == (1, 0)
    assert await everybody(server, headers) == {STAYS: ALICE, MOVES: ALICE, LATER: ALICE}


async def test_a_server_leaves_an_import_alone_that_is_at_work(server: IdentityServer) -> None:
    async with under_way(server) as task:
        await schedule.tend_hashes(server.database, server.settings, server.clock.now_ms())
    assert await task == (4, 0)


async def test_a_server_finishes_an_import_that_was_killed(server: IdentityServer) -> None:
    headers = await server.account(ALICE)
    await killed(server)
    await schedule.tend_hashes(server.database, server.settings, server.clock.now_ms())
    assert await everybody(server, headers) == dict.fromkeys((STAYS, GOES, MOVES), ALICE)


async def test_an_import_that_slept_while_a_server_finished_it_brings_nothing_back(server: IdentityServer) -> None:
    headers = await server.account(ALICE)
    async with under_way(server) as task:
        server.clock.advance(seconds=61)  # it did not say in time that it lives
        await schedule.tend_hashes(server.database, server.settings, server.clock.now_ms())
        await unbind(server, headers, GOES)
    with pytest.raises(Overtaken):
        await task
    assert await everybody(server, headers) == {STAYS: ALICE, MOVES: ALICE}


async def test_what_stands_before_a_bad_line_is_found(server: IdentityServer) -> None:
    headers = await server.account(ALICE)
    with pytest.raises(BadLine, match="line 4 "):
        await run(server, iter([*map(line, (STAYS, GOES, MOVES)), b"nonsense"]))
    assert await everybody(server, headers) == dict.fromkeys((STAYS, GOES, MOVES), ALICE)


async def test_many_batches_are_read_in_other_processes(server: IdentityServer) -> None:
    headers = await server.account(ALICE)
    addresses = [f"{number}@example.org" for number in range(50)]
    assert await run(server, map(line, addresses), at_once=7) == (50, 0)
    assert await server.found(headers, *addresses) == dict.fromkeys(addresses, ALICE)
