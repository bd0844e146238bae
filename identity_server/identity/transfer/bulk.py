"""Stating many bindings at once, on the operator's word: in large transactions, signed when a peer first asks.

An address about which anything is known already, bound or unbound, is left alone: an import takes nothing away, and
repeating it changes nothing.
"""

import gc
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

from identity_server.identity.associations import store
from identity_server.identity.associations.merge import Precedence
from identity_server.identity.associations.statement import Statement
from identity_server.identity.associations.store import Bound, Current
from identity_server.identity.lookup.index import Change, reindex
from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database

_AT_ONCE = 10_000


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
    # What a batch is made of goes when its last reference goes; the collector, looking for cycles in it again and
    # again, cost a third of the time.
    gc.disable()
    try:
        return await _import(database, bindings, server_name, clock, progress)
    finally:
        gc.enable()


async def _import(
    database: Database,
    bindings: Iterator[Bound],
    server_name: str,
    clock: Clock,
    progress: Callable[[int], None],
) -> Imported:
    stated = read = 0
    while batch := list(islice(bindings, _AT_ONCE)):
        # Of several lines about one address the last counts.
        unique = {bound.threepid: bound for bound in batch}
        now_ms = clock.now_ms()
        async with database.transaction() as session:
            head = await store.lock_log(session)
            known = await store.currents(session, list(unique))
            new = [bound for threepid, bound in unique.items() if threepid not in known]
            if new:
                said = [Statement.binding(bound.threepid, bound.user_id, now_ms) for bound in new]
                await store.append(session, head, server_name, [store.Signed(statement) for statement in said])
                winners = [
                    (bound.threepid, Current(bound.user_id, Precedence(now_ms, server_name, position), bound.spelling))
                    for position, bound in enumerate(new, start=head.position + 1)
                ]
                await store.put_current(session, winners)
                await reindex(session, [Change(threepid, None, winner) for threepid, winner in winners])
        stated += len(new)
        read += len(batch)
        progress(read)
    return Imported(stated, read - stated)
