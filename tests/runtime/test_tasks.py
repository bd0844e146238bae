import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import text

from identity_server.matrix.errors import InvalidParam
from identity_server.runtime.background import running
from identity_server.runtime.clock import FakeClock
from identity_server.runtime.database import Database
from identity_server.runtime.tasks import GiveUp, Tasks


class Work:
    """Workers on one database, and what they have been asked to do."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = FakeClock()
        self.done: list[Any] = []
        self.failure: Exception | None = None
        self.pause_seconds = 0.0

    def worker(self) -> Tasks:
        return Tasks(self.database, self.clock, {"greet": self._greet})

    async def _greet(self, payload: Mapping[str, Any]) -> None:
        self.done.append(payload["name"])
        await asyncio.sleep(self.pause_seconds)
        if self.failure is not None:
            raise self.failure

    async def enqueue(self, worker: Tasks, *names: str) -> None:
        async with self.database.transaction() as session:
            for name in names:
                await worker.enqueue(session, "greet", {"name": name}, now_ms=self.clock.now_ms())

    async def left(self) -> int:
        async with self.database.reading() as session:
            return await session.scalar(text("SELECT count(*) FROM tasks")) or 0


@pytest.fixture
def work(database: Database) -> Work:
    return Work(database)


async def test_a_task_is_run_once_and_forgotten(work: Work) -> None:
    worker = work.worker()
    await work.enqueue(worker, "alice", "bob")
    assert await worker.run_due() == 2
    assert await worker.run_due() == 0
    assert (sorted(work.done), await work.left()) == (["alice", "bob"], 0)


async def test_a_task_whose_transaction_is_rolled_back_never_was(work: Work) -> None:
    worker = work.worker()
    with pytest.raises(InvalidParam):
        await _enqueue_and_fail(work, worker)
    assert (await worker.run_due(), work.done) == (0, [])


async def _enqueue_and_fail(work: Work, worker: Tasks) -> None:
    async with work.database.transaction() as session:
        await worker.enqueue(session, "greet", {"name": "alice"}, now_ms=work.clock.now_ms())
        raise InvalidParam("no")


async def test_what_fails_is_tried_again_after_ever_longer_pauses_of_at_most_an_hour(work: Work) -> None:
    worker = work.worker()
    work.failure = RuntimeError()
    await work.enqueue(worker, "alice")
    assert await worker.run_due() == 1
    for pause_seconds in (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600):
        work.clock.current_ms += pause_seconds * 1000 - 1
        assert await worker.run_due() == 0
        work.clock.current_ms += 1
        assert await worker.run_due() == 1
    work.failure = None
    work.clock.advance(hours=1)
    await worker.run_due()
    assert await work.left() == 0


async def test_what_has_failed_for_a_week_is_given_up(work: Work) -> None:
    worker = work.worker()
    work.failure = RuntimeError()
    await work.enqueue(worker, "alice")
    for _ in range(14):
        assert await worker.run_due() == 1
        assert await work.left() == 1
        work.clock.advance(hours=12)
    work.clock.advance(seconds=1)
    await worker.run_due()
    assert await work.left() == 0


async def test_what_can_never_succeed_is_not_tried_again(work: Work) -> None:
    worker = work.worker()
    work.failure = GiveUp()
    await work.enqueue(worker, "alice")
    await worker.run_due()
    assert await work.left() == 0


async def test_one_that_fails_does_not_hold_up_the_others(work: Work) -> None:
    worker = work.worker()
    async with work.database.transaction() as session:
        await worker.enqueue(session, "unheard of", {}, now_ms=work.clock.now_ms())
    await work.enqueue(worker, "alice")
    await worker.run_due()
    assert (work.done, await work.left()) == (["alice"], 1)


async def test_two_workers_never_run_the_same_task_at_once(work: Work) -> None:
    names = [str(number) for number in range(100)]
    work.pause_seconds = 0.005
    workers = [work.worker() for _ in range(4)]
    await work.enqueue(workers[0], *names)
    while await work.left():
        await asyncio.gather(*(worker.run_due() for worker in workers))
    assert sorted(work.done) == sorted(names)


async def test_what_a_worker_was_at_when_it_died_is_run_by_another(work: Work) -> None:
    work.pause_seconds = 60
    dying = work.worker()
    await work.enqueue(dying, "alice")
    running_now = asyncio.create_task(dying.run_due())
    async with asyncio.timeout(10):
        while not work.done:
            await asyncio.sleep(0.01)
    running_now.cancel()
    await asyncio.gather(running_now, return_exceptions=True)
    work.pause_seconds = 0
    after = work.worker()
    assert await after.run_due() == 0  # it may still be at it
    work.clock.advance(seconds=120)
    assert await after.run_due() == 1
    assert (work.done, await work.left()) == (["alice", "alice"], 0)


async def test_a_worker_wakes_for_what_is_enqueued_and_finds_what_others_have_left(work: Work) -> None:
    worker = work.worker()
    async with running(worker.run_forever), asyncio.timeout(10):
        await work.enqueue(worker, "alice")
        while work.done != ["alice"]:
            await asyncio.sleep(0.01)
        await work.enqueue(work.worker(), "bob")
        while work.done != ["alice", "bob"]:
            await asyncio.sleep(0.01)
