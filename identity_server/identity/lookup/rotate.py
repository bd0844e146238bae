"""Pepper rotation, online: the next index is built beside the one in use, then takes its place.

1. ``begin``: a pepper in state ``building`` gets the free table. It is made under the association log's lock, so
   whatever is stated from then on is written to that table too, and wins over what the builder brings.
2. ``build``: every address is hashed into buckets by the first character of its hash (temporary files), and bucket by
   bucket is inserted in order: the table is filled from left to right, which is twice as fast as anyhow. An
   interrupted build begins again, with the same pepper; what is there already is left alone.
3. ``switch``: the new pepper is handed out, the old one accepted for the grace period.
"""

import asyncio
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TextIO

from identity_server.identity.associations import store as associations
from identity_server.identity.associations.store import Bound, lock_log
from identity_server.identity.lookup import store
from identity_server.identity.lookup.pepper import spellings
from identity_server.identity.lookup.peppers import PEPPER_LENGTH
from identity_server.identity.lookup.store import LivePepper
from identity_server.matrix.threepid import Threepid, lookup_hash
from identity_server.runtime.bulk import uncollected
from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database
from identity_server.runtime.tokens import Entropy
from identity_server.settings import LookupSettings

Progress = Callable[[str, int, int], None]

_READ_AT_ONCE = 5_000
_INSERT_AT_ONCE = 2_000


class InGrace(Exception):
    """The pepper before the current one is still accepted, and there is no third table."""


async def rotate(
    database: Database,
    settings: LookupSettings,
    *,
    clock: Clock,
    entropy: Entropy,
    force: bool = False,
    progress: Progress = lambda _stage, _done, _of: None,
) -> str:
    """The new pepper, once it is handed out. ``force``: even if that ends an older one's grace. Raises ``InGrace``."""
    building = await begin(database, clock=clock, entropy=entropy, force=force)
    await build(database, building, progress)
    await switch(database, building, grace_ms=settings.grace_period, clock=clock)
    return building.pepper


async def begin(database: Database, *, clock: Clock, entropy: Entropy, force: bool = False) -> LivePepper:
    """The pepper that is being built, a new one if there is none yet."""
    async with database.transaction() as session:
        await lock_log(session)
        now_ms = clock.now_ms()
        live = await store.live_peppers(session)
        for pepper in live:
            if pepper.state == "building":
                return pepper
            if pepper.state == "retiring":
                if not force and pepper.accepted_until_ts is not None and pepper.accepted_until_ts > now_ms:
                    raise InGrace("the pepper before the current one is still in its grace period")
                await store.remove_pepper(session, pepper)
        [current] = [pepper for pepper in live if pepper.state == "current"]
        new = LivePepper(entropy.token(PEPPER_LENGTH), 1 - current.slot, "building", now_ms, None)
        await store.add_pepper(session, new)
        return new


async def build(database: Database, building: LivePepper, progress: Progress) -> None:
    with tempfile.TemporaryDirectory(prefix="pepper-") as folder, uncollected():
        total = await _fill_buckets(database, building.pepper, Path(folder), progress)
        done = 0
        for bucket in sorted(Path(folder).iterdir()):
            with bucket.open() as lines:
                rows = sorted(_pair(line) for line in lines)
            for chunk in _chunks(iter(rows)):
                async with database.transaction() as session:
                    await store.add_hashes(session, building.slot, chunk)
                done += len(chunk)
                progress("indexing", done, total)
            bucket.unlink()


async def switch(database: Database, building: LivePepper, *, grace_ms: int, clock: Clock) -> None:
    async with database.transaction() as session:
        await lock_log(session)
        for pepper in await store.live_peppers(session):
            if pepper.state == "current":
                await store.set_state(session, pepper.pepper, "retiring", clock.now_ms() + grace_ms)
        await store.set_state(session, building.pepper, "current", None)
        await store.remove_unbound(session, building.slot)


async def _fill_buckets(database: Database, pepper: str, folder: Path, progress: Progress) -> int:
    """A file for each first character, of lines "hash<TAB>user ID"; how many lines there are."""
    async with database.reading() as session:
        total = await associations.count_bound(session)
    written = done = 0
    with ExitStack() as files:
        buckets = _Buckets(folder, files)
        page = await _page(database, Threepid("", ""))
        while page:
            coming = asyncio.create_task(_page(database, page[-1].threepid))
            try:
                written += await asyncio.to_thread(buckets.fill, page, pepper)
            finally:
                await asyncio.wait([coming])
            done += len(page)
            progress("hashing", done, total)
            page = coming.result()
    return written


async def _page(database: Database, after: Threepid) -> list[Bound]:
    async with database.reading() as session:
        return await associations.page_of_bound(session, after, _READ_AT_ONCE)


class _Buckets:
    def __init__(self, folder: Path, files: ExitStack) -> None:
        self._folder = folder
        self._files = files
        self._buckets: dict[str, TextIO] = {}

    def fill(self, page: list[Bound], pepper: str) -> int:
        """How many lines it came to."""
        lines: dict[str, list[str]] = defaultdict(list)
        for threepid, user_id, spelling in page:
            for address in spellings(threepid, spelling):
                hash_ = lookup_hash(address, threepid.medium, pepper)
                lines[hash_[0]].append(f"{hash_}\t{user_id}\n")
        for first, some in lines.items():
            # The code point, because not every file system tells capital letters from small ones.
            if first not in self._buckets:
                file = self._folder / f"{ord(first):03}"
                self._buckets[first] = self._files.enter_context(file.open("w"))
            self._buckets[first].writelines(some)
        return sum(map(len, lines.values()))


def _pair(line: str) -> tuple[str, str]:
    hash_, _, user_id = line.rstrip("\n").partition("\t")
    return hash_, user_id


def _chunks(rows: Iterator[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    while chunk := list(islice(rows, _INSERT_AT_ONCE)):
        yield chunk
