import asyncio
from collections.abc import Awaitable, Callable

from identity_server.runtime.background import once_at_a_time, running
from identity_server.runtime.clock import FakeClock
from identity_server.runtime.database import Database
from identity_server.runtime.leases import take_lease


async def test_a_lease_has_one_holder_until_it_is_over(database: Database) -> None:
    assert await take_lease(database, "work", "a", now_ms=0, for_ms=100)
    assert not await take_lease(database, "work", "b", now_ms=99, for_ms=100)
    assert await take_lease(database, "work", "b", now_ms=100, for_ms=100)
    assert not await take_lease(database, "work", "a", now_ms=100, for_ms=100)


async def test_its_holder_renews_it(database: Database) -> None:
    for now_ms in (0, 50, 100, 150):
        assert await take_lease(database, "work", "a", now_ms=now_ms, for_ms=100)
        assert not await take_lease(database, "work", "b", now_ms=now_ms + 49, for_ms=100)


async def test_leases_on_different_work_have_nothing_to_do_with_each_other(database: Database) -> None:
    assert await take_lease(database, "work", "a", now_ms=0, for_ms=100)
    assert await take_lease(database, "other work", "b", now_ms=0, for_ms=100)


async def test_of_many_who_ask_at_once_one_gets_it(database: Database) -> None:
    for round_ in range(5):
        asked = (take_lease(database, "work", str(n), now_ms=round_ * 100, for_ms=100) for n in range(10))
        assert sum(await asyncio.gather(*asked)) == 1


async def test_background_work_runs_in_one_of_all_the_processes(database: Database) -> None:
    done: list[tuple[str, int]] = []
    clock = FakeClock()

    def loop_of(holder: str) -> Callable[[], Awaitable[None]]:
        async def act(now_ms: int) -> None:
            done.append((holder, now_ms))

        return once_at_a_time("work", act, database=database, clock=clock, holder=holder, every_ms=20)

    async with running(loop_of("a"), loop_of("b"), loop_of("c")), asyncio.timeout(10):
        while len(done) < 3:
            await asyncio.sleep(0.01)
        first = {holder for holder, _ in done}
        assert len(first) == 1
        # The clock stood still. When the lease is over, any of them may take it.
        clock.advance(seconds=1)
        while done[-1][1] != clock.now_ms():
            await asyncio.sleep(0.01)
    assert len({holder for holder, now_ms in done if now_ms == clock.now_ms()}) == 1


async def test_background_work_that_fails_does_not_stop_the_rest() -> None:
    worked = asyncio.Event()

    async def fails() -> None:
        raise RuntimeError

    async def works() -> None:
        worked.set()
        await asyncio.sleep(60)

    async with running(fails, works), asyncio.timeout(10):
        await worked.wait()
