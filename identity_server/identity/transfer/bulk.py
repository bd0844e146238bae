"""Stating many bindings at once, on the operator's word, in large transactions.

An address about which anything is known already, bound or unbound, is left alone: an import takes nothing away, and
repeating it changes nothing.

What is stated is found by lookups once all of it has been: hashes fall anywhere in their tables, and a page that is
written for each of them would cost more than all the rest. So they are gathered in files meanwhile, and put in at the
end, in order (``lookup/fill.py``). An import that was killed before is finished by the next one, or by a server.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from itertools import islice
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.associations import store
from identity_server.identity.associations.merkle import Node, Peaks
from identity_server.identity.associations.statement import PlainBinding, Statement, grown
from identity_server.identity.associations.store import Head
from identity_server.identity.lookup.fill import Progress, in_silence
from identity_server.identity.lookup.imports import HashesOfImport, importing
from identity_server.identity.transfer.lines import BadLine, read_lines
from identity_server.matrix.threepid import Threepid
from identity_server.runtime.bulk import uncollected
from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database
from identity_server.runtime.helpers import Helper
from identity_server.runtime.tokens import Entropy

_AT_ONCE = 30_000
"""About half a second each, which is how long others wait to write. Up to a million rows a third faster than with
10,000: the more rows a transaction has, the more of them share a page that it writes."""


class Imported(NamedTuple):
    stated: int
    left_alone: int


async def import_bindings(
    database: Database,
    lines: Iterator[bytes],
    *,
    server_name: str,
    clock: Clock,
    entropy: Entropy,
    progress: Progress = in_silence,
    at_once: int = _AT_ONCE,
) -> Imported:
    """State what ``lines`` say (``lines.py``). ``at_once``: how many share a transaction.

    Raises ``AnotherImport``, ``Overtaken`` or ``BadLine``; what stood before that line is imported, in whole batches.
    """
    stated = read = 0
    bad_line: BadLine | None = None
    async with importing(database, clock=clock, entropy=entropy) as hashes:
        await hashes.finish_another(progress)
        with uncollected(), Helper(processes=2) as helper:
            try:
                async with aclosing(_batches(lines, at_once, helper)) as batches:
                    async for count, bindings in batches:
                        async with database.transaction() as session:
                            batch = _Batch(session, server_name, clock.now_ms())
                            stated += await batch.state(bindings, hashes, helper)
                        read += count
                        progress("importing", read, 0)
            except BadLine as error:
                bad_line = error
            await hashes.put_in(progress, helper.run)
    if bad_line is not None:
        raise bad_line
    return Imported(stated, read - stated)


async def _batches(
    lines: Iterator[bytes], at_once: int, helper: Helper
) -> AsyncGenerator[tuple[int, list[PlainBinding]]]:
    """How many lines, and what they say; while one batch is stated, the next is read."""

    async def read(after: int) -> tuple[int, list[PlainBinding]]:
        some = await asyncio.to_thread(lambda: list(islice(lines, at_once)))
        if after and some:
            helper.grow()
        return len(some), await helper.run(_read, some, after)

    coming = asyncio.create_task(read(0))
    try:
        count, bindings = await coming
        total = count
        while count:
            coming = asyncio.create_task(read(total))
            yield count, bindings
            count, bindings = await coming
            total += count
    finally:
        await asyncio.wait([coming])


class _Batch(NamedTuple):
    """One transaction of many."""

    session: AsyncSession
    server_name: str
    now_ms: int

    async def state(self, bindings: list[PlainBinding], hashes: HashesOfImport, helper: Helper) -> int:
        """State those of ``bindings`` about whose addresses nothing is known; how many they are."""
        head = await store.lock_log(self.session)
        known = await store.currents(self.session, [Threepid(medium, address) for medium, address, _, _ in bindings])
        new = [binding for binding in bindings if binding[:2] not in known]
        if new:
            scatter = await hashes.scattering(self.session)
            following = helper.run(_follow, new, head, self.server_name, self.now_ms, scatter)
            try:
                await store.add_unsigned(self.session, head, self.server_name, self.now_ms, new)
            finally:
                await asyncio.wait([following])
            await store.set_tree(self.session, *following.result())
        return len(new)


def _read(lines: Sequence[bytes], after: int) -> list[PlainBinding]:
    """Sorted, for neighbours in the tables are written together; of several about one address the last."""
    return sorted({(said[0], said[1]): said for said in read_lines(lines, after)}.values())


def _follow(
    bindings: Sequence[PlainBinding],
    head: Head,
    server_name: str,
    now_ms: int,
    scatter: Callable[[Sequence[PlainBinding]], None],
) -> tuple[Peaks, list[Node]]:
    """What follows from stating ``bindings``: their hashes are scattered, and the log's tree grows."""
    scatter(bindings)
    said = (Statement.binding(Threepid(medium, address), user_id, now_ms) for medium, address, user_id, _ in bindings)
    return grown(head.peaks, head.secret, server_name, said)
