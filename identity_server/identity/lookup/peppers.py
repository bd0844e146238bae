"""Which peppers are accepted just now, known to a process for a second at a time."""

import asyncio
from typing import Annotated

from identity_server.identity.associations.store import lock_log
from identity_server.identity.lookup import store
from identity_server.identity.lookup.store import LivePepper
from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database
from identity_server.runtime.dependencies import opened
from identity_server.runtime.tokens import Entropy

PEPPER_LENGTH = 32
_FRESH_MS = 1_000


class Peppers:
    """Another process may rotate the pepper: what is known here is at most a second old, which the grace period
    covers many times over."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._known: list[LivePepper] = []
        self._read_ts = 0
        self._reading = asyncio.Lock()

    async def current(self) -> LivePepper:
        """The one to hand out."""
        return next(pepper for pepper in await self._fresh() if pepper.state == "current")

    async def accepted(self, pepper: str) -> LivePepper | None:
        """``pepper``, if lookups with it are answered."""
        now_ms = self._clock.now_ms()
        for live in await self._fresh():
            retired = live.accepted_until_ts is not None and live.accepted_until_ts <= now_ms
            if live.pepper == pepper and live.state != "building" and not retired:
                return live
        return None

    async def _fresh(self) -> list[LivePepper]:
        if not 0 <= self._clock.now_ms() - self._read_ts < _FRESH_MS or not self._known:
            async with self._reading, self._database.reading() as session:
                self._known = await store.live_peppers(session)
                self._read_ts = self._clock.now_ms()
        return self._known


OpenPeppers = Annotated[Peppers, opened("peppers")]


async def ensure_pepper(database: Database, entropy: Entropy, *, now_ms: int) -> None:
    """The first pepper, if there is none yet."""
    async with database.transaction() as session:
        await lock_log(session)
        if not await store.live_peppers(session):
            first = LivePepper(entropy.token(PEPPER_LENGTH), 0, "current", now_ms, None, None)
            await store.add_pepper(session, first)
