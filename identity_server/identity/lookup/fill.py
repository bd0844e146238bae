"""Filling the table of a pepper from left to right: in a large one several times as fast as anyhow, and its pages are
full then, so that lookups read a third less.

1. ``scatter``: addresses are hashed into buckets by the first character of the hash (files in a folder).
2. ``put_in``: bucket by bucket is inserted in order. What is there already is left alone, for it was stated later.
3. ``complete``: whatever is unbound from then on needs no row that says so.
"""

import asyncio
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import aclosing
from pathlib import Path

from identity_server.identity.associations import store as associations
from identity_server.identity.associations.statement import PlainBinding
from identity_server.identity.associations.store import lock_log
from identity_server.identity.lookup import store
from identity_server.identity.lookup.spellings import spellings
from identity_server.identity.lookup.store import LivePepper
from identity_server.matrix.threepid import Threepid, lookup_hash
from identity_server.runtime.bulk import uncollected
from identity_server.runtime.database import Database, in_chunks
from identity_server.runtime.helpers import Run, one_ahead

Progress = Callable[[str, int, int], None]
"""The stage, how far it is, and of how much; 0 where that is not known."""


def in_silence(_stage: str, _done: int, _of: int) -> None: ...


_READ_AT_ONCE = 10_000
_INSERT_AT_ONCE = 5_000


async def build(database: Database, filling: LivePepper, progress: Progress = in_silence) -> None:
    """Bring everything that is bound into the table of ``filling``; begun again after an interruption."""
    with tempfile.TemporaryDirectory(prefix="pepper-") as folder, uncollected():
        await _scatter_all(database, Path(folder), filling.pepper, progress)
        await put_in(database, Path(folder), filling, progress)


def scatter(folder: Path, pepper: str, bindings: Iterable[PlainBinding]) -> int:
    """Add a line "hash<TAB>user ID" for each spelling of each address; how many lines it came to."""
    lines: dict[str, list[str]] = defaultdict(list)
    for medium, address, user_id, spelling in bindings:
        for spelled in spellings(address, spelling):
            hash_ = lookup_hash(spelled, medium, pepper)
            lines[hash_[0]].append(f"{hash_}\t{user_id}\n")
    for first, some in lines.items():
        # The code point, because not every file system tells capital letters from small ones.
        with (folder / f"{ord(first):03}").open("a", encoding="utf-8") as bucket:
            bucket.writelines(some)
    return sum(map(len, lines.values()))


async def put_in(
    database: Database, folder: Path, filling: LivePepper, progress: Progress, run: Run = asyncio.to_thread
) -> bool:
    """Insert what was scattered; False if somebody else has completed the table, or the pepper has gone. ``run``: where
    one bucket is put in order while another is inserted."""
    buckets, done = await asyncio.to_thread(lambda: sorted(folder.iterdir())), 0
    in_order = one_ahead(run, _in_order, buckets)
    async with aclosing(in_order):
        async for rows in in_order:
            for some in in_chunks(rows, _INSERT_AT_ONCE):
                async with database.transaction() as session:
                    if not await store.is_filled_by(session, filling):
                        return False
                    await store.add_hashes(session, filling.slot, some)
            done += 1
            progress("indexing", done, len(buckets))
    return True


async def complete(database: Database, filling: LivePepper) -> None:
    """What an import had to bring is there."""
    async with database.transaction() as session:
        await lock_log(session)
        for live in await store.live_peppers(session):
            if live.pepper == filling.pepper and live.import_id == filling.import_id:
                await store.set_import(session, live.pepper, None)
                if live._replace(import_id=None).is_complete:
                    await store.remove_unbound(session, live.slot)


async def _scatter_all(database: Database, folder: Path, pepper: str, progress: Progress) -> None:
    async with database.reading() as session:
        total = await associations.count_bound(session)
    done = 0
    page = await _page(database, Threepid("", ""))
    while page:
        coming = asyncio.create_task(_page(database, Threepid(*page[-1][:2])))
        try:
            await asyncio.to_thread(scatter, folder, pepper, page)
        finally:
            await asyncio.wait([coming])
        done += len(page)
        progress("hashing", done, total)
        page = coming.result()


async def _page(database: Database, after: Threepid) -> list[PlainBinding]:
    async with database.reading() as session:
        return await associations.page_of_bound(session, after, _READ_AT_ONCE)


def _in_order(bucket: Path) -> list[tuple[str, str]]:
    """The bucket's rows, once each; it is gone then."""
    lines = sorted(set(bucket.read_text(encoding="utf-8").split("\n")) - {""})
    bucket.unlink()
    return [(hash_, user_id) for hash_, _, user_id in (line.partition("\t") for line in lines)]
