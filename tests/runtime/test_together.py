import asyncio
from collections.abc import Sequence

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.matrix.errors import Forbidden, MatrixError
from identity_server.runtime.database import Database
from identity_server.runtime.together import Together

# Of the tables that there are, one that nothing else here writes to.
_NOTE = "INSERT INTO leases (work, holder, until_ts) VALUES (:work, '', 0)"


class Notes:
    """Notes numbers down: doubles those it takes, refuses the negative, and fails on what is noted already."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.turns: list[Sequence[int]] = []
        self.note = Together(database, self.act)

    async def act(self, session: AsyncSession, numbers: Sequence[int]) -> list[int | MatrixError]:
        self.turns.append(numbers)
        for number in numbers:
            await session.execute(text(_NOTE), {"work": str(number)})
        return [Forbidden("It is negative") if number < 0 else number * 2 for number in numbers]

    async def noted(self) -> set[int]:
        async with self.database.reading() as session:
            return {int(work) for work in await session.scalars(text("SELECT work FROM leases"))}


async def test_what_waits_goes_together_and_each_is_given_its_own_result(database: Database) -> None:
    notes = Notes(database)
    assert await asyncio.gather(*(notes.note(number) for number in range(250))) == [2 * each for each in range(250)]
    assert [len(turn) for turn in notes.turns] == [100, 100, 50]
    assert await notes.note(1000) == 2000
    assert await notes.noted() == {*range(250), 1000}


async def test_what_is_refused_is_refused_to_its_own_caller(database: Database) -> None:
    notes = Notes(database)
    one, other, third = await asyncio.gather(*(notes.note(each) for each in (1, -1, 2)), return_exceptions=True)
    assert (one, type(other), third) == (2, Forbidden, 4)
    assert len(notes.turns) == 1


async def test_nobody_fails_by_what_another_asked_for(database: Database) -> None:
    notes = Notes(database)
    await notes.note(2)
    one, failed, third = await asyncio.gather(*(notes.note(each) for each in (1, 2, 3)), return_exceptions=True)
    assert (one, third) == (2, 6)
    assert isinstance(failed, Exception)
    assert await notes.noted() == {1, 2, 3}


async def test_one_who_is_gone_holds_nobody_up(database: Database) -> None:
    notes = Notes(database)
    gone, stays = asyncio.create_task(notes.note(1)), asyncio.create_task(notes.note(2))
    await asyncio.sleep(0)
    gone.cancel()
    assert await stays == 4
    assert await notes.note(3) == 6


async def test_finishing_waits_for_what_is_under_way(database: Database) -> None:
    notes = Notes(database)
    await notes.note.finish()
    asking = asyncio.create_task(notes.note(1))
    await asyncio.sleep(0)
    await notes.note.finish()
    assert await notes.noted() == {1}
    assert await asking == 2
