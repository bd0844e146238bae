import asyncio
from typing import Any

import pytest

from identity_server.homeserver.streams import Streams, advance, current_position
from identity_server.runtime.database import Database

SOON_MS = 2_000
NEVER_MS = 20


@pytest.fixture
def database(state: dict[str, Any]) -> Database:
    database: Database = state["resources"].database
    return database


async def advance_and_fail(database: Database, streams: Streams, topic: str) -> int:
    """The position that was taken in a transaction which then failed."""
    try:
        async with database.transaction() as session:
            position = await advance(session, streams, topic)
            raise RuntimeError
    except RuntimeError:
        return position


async def test_positions_have_no_gaps_and_are_committed_in_order(database: Database) -> None:
    streams = Streams()
    taken: list[int] = []

    async def write() -> None:
        async with database.transaction() as session:
            position = await advance(session, streams, "!room")
            async with database.reading() as reader:
                # Whoever reads now has been promised nothing of what is not committed yet.
                assert await current_position(reader) < position
        taken.append(position)

    await asyncio.gather(*(write() for _ in range(8)))
    assert sorted(taken) == list(range(min(taken), min(taken) + 8))


async def test_a_position_that_was_rolled_back_is_given_again(database: Database) -> None:
    streams = Streams()
    lost = await advance_and_fail(database, streams, "!room")
    async with database.transaction() as session:
        assert await advance(session, streams) == lost


async def test_listeners_are_woken_by_the_commit_and_not_before(database: Database) -> None:
    streams = Streams()
    with streams.listening(["!room", "@alice:hs.test"]) as listener:
        async with database.transaction() as session:
            await advance(session, streams, "!room")
            assert not await listener.wait(NEVER_MS)
        assert await listener.wait(SOON_MS)
        assert not await listener.wait(NEVER_MS)

        await advance_and_fail(database, streams, "@alice:hs.test")
        assert not await listener.wait(NEVER_MS)


async def test_only_those_who_listen_to_the_topic_are_woken() -> None:
    streams = Streams()
    with streams.listening(["!a"]) as in_a, streams.listening(["!b"]) as in_b:
        streams.wake(["!b"])
        assert await in_b.wait(SOON_MS)
        assert not await in_a.wait(NEVER_MS)
    streams.wake(["!a", "!b"])
    assert not streams._listeners
