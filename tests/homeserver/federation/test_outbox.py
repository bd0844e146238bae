"""What another server is owed, as rows: nothing is forgotten, and a batch that failed stays the same."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.federation.edus import queue_edu, queue_edus
from identity_server.homeserver.federation.outbox import (
    Batch,
    forget_failed,
    next_batch,
    note_failed,
    note_sent,
    owed_edus,
    resting,
)

THERE = "there.test"


@pytest.fixture
async def session(state: dict[str, Any]) -> AsyncIterator[AsyncSession]:
    async with state["resources"].database.transaction() as session:
        yield session


def contents(batch: Batch | None) -> list[Any]:
    return [edu.content["n"] for edu in batch.edus] if batch else []


async def test_edus_go_in_order_a_hundred_at_a_time_and_one_with_a_key_replaces_its_like(
    session: AsyncSession,
) -> None:
    for number in range(120):
        await queue_edu(session, THERE, "m.direct_to_device", {"n": number})
    for number in (1, 2, 3):
        await queue_edus(session, [THERE, "other.test"], "m.receipt", {"n": f"receipt {number}"}, key="!a @b")
    assert await owed_edus(session, since=0) == ({THERE, "other.test"}, 126)
    first = await next_batch(session, THERE)
    assert first is not None
    assert contents(first) == list(range(100))
    await note_sent(session, THERE, first)
    second = await next_batch(session, THERE)
    assert second is not None
    assert contents(second) == [*range(100, 120), "receipt 3"]
    await note_sent(session, THERE, second)
    assert await next_batch(session, THERE) is None
    assert contents(await next_batch(session, "other.test")) == ["receipt 3"]


async def test_a_batch_that_failed_stays_as_it_was_whatever_comes(session: AsyncSession) -> None:
    await queue_edu(session, THERE, "m.direct_to_device", {"n": 1})
    failed = await next_batch(session, THERE)
    assert failed is not None
    await note_failed(session, THERE, failed, failures=1, next_try_ts=5)
    await queue_edu(session, THERE, "m.direct_to_device", {"n": 2})
    assert await resting(session) == {THERE: (1, 5)}
    again = await next_batch(session, THERE)
    assert again is not None
    assert (again.transaction_id, contents(again)) == (failed.transaction_id, [1])
    await note_sent(session, THERE, again)
    assert await resting(session) == {}
    after = await next_batch(session, THERE)
    assert after is not None
    assert contents(after) == [2]
    assert after.transaction_id != failed.transaction_id


async def test_what_was_replaced_while_it_could_not_be_sent_does_not_keep_the_new_from_going(
    session: AsyncSession,
) -> None:
    await queue_edu(session, THERE, "m.receipt", {"n": 1}, key="k")
    failed = await next_batch(session, THERE)
    assert failed is not None
    await note_failed(session, THERE, failed, failures=1, next_try_ts=5)
    await queue_edu(session, THERE, "m.receipt", {"n": 2}, key="k")
    assert await next_batch(session, THERE) is None
    await forget_failed(session, THERE)
    assert contents(await next_batch(session, THERE)) == [2]
