"""Many requests' work in one transaction.

What can only be done one after the other (a log has one end) waits for its turn. Whatever has come to wait meanwhile
has it together: one round of statements and one commit, where each alone would take as many.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.matrix.errors import MatrixError
from identity_server.runtime.database import Database

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_AT_ONCE = 100


class Together(Generic[_Item, _Result]):
    """``act`` answers for each item, in order; a ``MatrixError`` in place of a result is raised to that item's caller.

    What it raises itself undoes all of them. Each is then tried alone, so that nobody fails by another's item.
    """

    def __init__(
        self,
        database: Database,
        act: Callable[[AsyncSession, Sequence[_Item]], Awaitable[Sequence[_Result | MatrixError]]],
    ) -> None:
        self._database = database
        self._act = act
        self._waiting: list[tuple[_Item, asyncio.Future[_Result]]] = []
        self._turns: asyncio.Task[None] | None = None

    async def __call__(self, item: _Item) -> _Result:
        """The item's result, once it is committed."""
        done: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, done))
        if self._turns is None:
            self._turns = asyncio.create_task(self._take_turns())
        return await done

    async def finish(self) -> None:
        """Wait until nothing is under way."""
        if self._turns is not None:
            await self._turns

    async def _take_turns(self) -> None:
        while self._waiting:
            some, self._waiting = self._waiting[:_AT_ONCE], self._waiting[_AT_ONCE:]
            await self._turn(some)
        self._turns = None

    async def _turn(self, some: Sequence[tuple[_Item, asyncio.Future[_Result]]]) -> None:
        outcomes: list[_Result | Exception]
        try:
            async with self._database.transaction() as session:
                outcomes = list(await self._act(session, [item for item, _ in some]))
        except Exception as error:
            if len(some) > 1:
                for one in some:
                    await self._turn([one])
                return
            outcomes = [error]
        for (_, done), outcome in zip(some, outcomes, strict=True):
            if done.done():
                continue  # its caller is gone
            if isinstance(outcome, Exception):
                done.set_exception(outcome)
            else:
                done.set_result(outcome)
