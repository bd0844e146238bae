"""Stating many bindings at once, on the operator's word: in large transactions, signed when a peer first asks.

An address about which anything is known already, bound or unbound, is left alone: an import takes nothing away, and
repeating it changes nothing.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.associations import store
from identity_server.identity.associations.merge import Precedence
from identity_server.identity.associations.statement import Statement
from identity_server.identity.associations.store import Bound, Current
from identity_server.identity.lookup.index import Change, reindex
from identity_server.runtime.bulk import uncollected
from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database

_AT_ONCE = 30_000
"""About a second each, which is how long others wait to write. Up to a million rows a third faster than with 10,000:
the more rows a transaction has, the more of them share a page that it writes."""


class Imported(NamedTuple):
    stated: int
    left_alone: int


async def import_bindings(
    database: Database,
    bindings: Iterator[Bound],
    *,
    server_name: str,
    clock: Clock,
    progress: Callable[[int], None] = lambda _done: None,
) -> Imported:
    stated = read = 0
    with uncollected():
        batch = await _read(bindings)
        while batch:
            coming = asyncio.create_task(_read(bindings))
            try:
                async with database.transaction() as session:
                    stated += await _state(session, batch, server_name, clock.now_ms())
            finally:
                await asyncio.wait([coming])
            read += len(batch)
            progress(read)
            batch = coming.result()
    return Imported(stated, read - stated)


async def _read(bindings: Iterator[Bound]) -> list[Bound]:
    """In a thread: while the engine is at work on one batch, there is time to read the next."""
    return await asyncio.to_thread(lambda: list(islice(bindings, _AT_ONCE)))


async def _state(session: AsyncSession, batch: Sequence[Bound], server_name: str, now_ms: int) -> int:
    """State those of ``batch`` about whose addresses nothing is known; how many they are."""
    # Of several lines about one address the last counts.
    unique = {bound.threepid: bound for bound in batch}
    head = await store.lock_log(session)
    known = await store.currents(session, list(unique))
    # Sorted: neighbours in the tables are written together.
    new = sorted(bound for threepid, bound in unique.items() if threepid not in known)
    if new:
        said = [Statement.binding(bound.threepid, bound.user_id, now_ms) for bound in new]
        await store.append(session, head, server_name, [store.Signed(statement) for statement in said])
        winners = [
            (bound.threepid, Current(bound.user_id, Precedence(now_ms, server_name, position), bound.spelling))
            for position, bound in enumerate(new, start=head.position + 1)
        ]
        await store.put_current(session, winners)
        await reindex(session, [Change(threepid, None, winner) for threepid, winner in winners])
    return len(new)
