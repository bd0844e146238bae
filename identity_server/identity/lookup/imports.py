"""What an import states is put into the tables of hashes at its end (``fill.py``), under every pepper in use.

Until then its name stands beside these peppers: so what is unbound meanwhile stays unbound, and an import that was
killed is known by it, and finished by whoever comes next. There is one import at a time.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.associations.statement import PlainBinding
from identity_server.identity.associations.store import lock_log
from identity_server.identity.lookup import store
from identity_server.identity.lookup.fill import Progress, build, complete, in_silence, put_in, scatter
from identity_server.identity.lookup.store import LivePepper
from identity_server.runtime.background import running
from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database
from identity_server.runtime.helpers import Run
from identity_server.runtime.leases import is_leased, release_lease, take_lease
from identity_server.runtime.tokens import Entropy

_WORK = "import"
_LEASE_MS = 60_000
_ID_LENGTH = 16


class AnotherImport(Exception):
    """It is at work, or was killed within the last minute."""


class Overtaken(Exception):
    """This process was asleep for so long that another one took it for dead, and has finished its work."""


class HashesOfImport:
    def __init__(self, database: Database, import_id: str, folder: Path) -> None:
        self._database = database
        self._id = import_id
        self._folder = folder
        self._filling: dict[str, LivePepper] = {}

    async def finish_another(self, progress: Progress = in_silence) -> None:
        """Bring in what an import stated that was killed."""
        async with self._database.transaction() as session:
            await lock_log(session)
            killed = [live for live in await store.live_peppers(session) if live.import_id is not None]
            for live in killed:
                await self._begin(session, live)
        for live in killed:
            await build(self._database, self._filling[live.pepper], progress)

    async def scattering(self, session: AsyncSession) -> Callable[[Sequence[PlainBinding]], None]:
        """How to gather the hashes of what is stated in this transaction, which holds the log's lock; in any process.

        Raises ``Overtaken``.
        """
        live = await store.live_peppers(session)
        for pepper in live:
            if pepper.pepper in self._filling:
                if pepper.import_id != self._id:
                    raise Overtaken
            else:
                await self._begin(session, pepper)
        return partial(_scatter, {pepper.pepper: self._folder / pepper.pepper for pepper in live})

    async def put_in(self, progress: Progress = in_silence, run: Run = asyncio.to_thread) -> None:
        """Raises ``Overtaken``."""
        for filling in self._filling.values():
            if not await put_in(self._database, self._folder / filling.pepper, filling, progress, run):
                async with self._database.reading() as session:
                    if any(live.pepper == filling.pepper for live in await store.live_peppers(session)):
                        raise Overtaken
            await complete(self._database, filling)

    async def _begin(self, session: AsyncSession, pepper: LivePepper) -> None:
        await store.set_import(session, pepper.pepper, self._id)
        (self._folder / pepper.pepper).mkdir()
        self._filling[pepper.pepper] = pepper._replace(import_id=self._id)


@asynccontextmanager
async def importing(database: Database, *, clock: Clock, entropy: Entropy) -> AsyncIterator[HashesOfImport]:
    """Raises ``AnotherImport``."""
    import_id = entropy.token(_ID_LENGTH)

    async def keep_lease() -> None:
        while True:
            await asyncio.sleep(_LEASE_MS / 3 / 1000)
            await take_lease(database, _WORK, import_id, now_ms=clock.now_ms(), for_ms=_LEASE_MS)

    if not await take_lease(database, _WORK, import_id, now_ms=clock.now_ms(), for_ms=_LEASE_MS):
        raise AnotherImport
    try:
        with tempfile.TemporaryDirectory(prefix="import-") as folder:
            async with running(keep_lease):
                yield HashesOfImport(database, import_id, Path(folder))
    finally:
        await release_lease(database, _WORK, import_id)


async def is_importing(database: Database, now_ms: int) -> bool:
    """Whether an import is at work, as far as anybody knows."""
    return await is_leased(database, _WORK, now_ms=now_ms)


def _scatter(folders: dict[str, Path], bindings: Sequence[PlainBinding]) -> None:
    for pepper, folder in folders.items():
        scatter(folder, pepper, bindings)
