"""The one stream that everything a client is told of stands in, and the waking of those who wait for it.

Whatever /sync delivers carries a position. Positions are taken in the transaction that writes it, from a single row:
they have no gaps and are committed in order, so whoever has read up to one has missed nothing before it.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated, cast

from sqlalchemy import Table, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from identity_server.homeserver import tables
from identity_server.runtime.database import after_commit
from identity_server.runtime.dependencies import opened

FEDERATION = "federation"
"""The topic of those who send to other servers."""

_ONLY_ROW = 1


class StreamPosition(tables.Table):
    __tablename__ = "stream_position"

    row: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[int]


_POSITIONS = cast(Table, StreamPosition.__table__)
# Made once, and past the ORM: everything that is written asks for it.
_ADVANCE = (
    update(_POSITIONS)
    .where(_POSITIONS.c.row == _ONLY_ROW)
    .values(position=_POSITIONS.c.position + 1)
    .returning(_POSITIONS.c.position)
)


class Listener:
    """Wakes when something happens; a wake says only that it is worth looking again."""

    def __init__(self) -> None:
        self._woken = asyncio.Event()

    def wake(self) -> None:
        self._woken.set()

    async def wait(self, timeout_ms: int) -> bool:
        """Whether it was woken, now or since it was last cleared, before ``timeout_ms`` had passed."""
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True


class Streams:
    """Who listens in this process, by topic: a room ID, a user ID, or ``FEDERATION``."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[Listener]] = defaultdict(set)
        self.is_closing = False

    def close(self) -> None:
        """The process stops: whoever waits is woken, to see ``is_closing`` and wait no more."""
        self.is_closing = True
        self.wake(tuple(self._listeners))

    def wake(self, topics: Iterable[str]) -> None:
        for topic in topics:
            for listener in self._listeners.get(topic, ()):
                listener.wake()

    @contextmanager
    def listening(self, topics: Iterable[str]) -> Iterator[Listener]:
        """Listen before you look, and nothing falls between."""
        listener, wanted = Listener(), set(topics)
        for topic in wanted:
            self._listeners[topic].add(listener)
        try:
            yield listener
        finally:
            for topic in wanted:
                self._listeners[topic].discard(listener)
                if not self._listeners[topic]:
                    del self._listeners[topic]


OpenStreams = Annotated[Streams, opened("streams")]


async def advance(session: AsyncSession, streams: Streams, *topics: str) -> int:
    """The next position, and the waking of ``topics`` once it is committed. Others wait for it until then."""
    position: int | None = await session.scalar(_ADVANCE)
    assert position is not None  # the migration made the row
    after_commit(session, lambda: streams.wake(topics))
    return position


async def current_position(session: AsyncSession) -> int:
    """Up to where everything is committed."""
    position: int | None = await session.scalar(select(StreamPosition.position).where(StreamPosition.row == _ONLY_ROW))
    return position or 0
