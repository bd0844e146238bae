"""Making an address findable, and unfindable, under each live pepper: part of the transaction that states it."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.associations.store import Current
from identity_server.identity.lookup import store
from identity_server.identity.lookup.spellings import spellings
from identity_server.matrix.threepid import Threepid, lookup_hash


class Change(NamedTuple):
    """What held for an address, and what holds for it now."""

    threepid: Threepid
    before: Current | None
    after: Current


async def reindex(session: AsyncSession, changes: Sequence[Change]) -> None:
    """Let lookups answer what holds after ``changes``, which came in this order.

    The caller holds the association log's lock, as whoever begins a rotation does: so nothing is stated while the set
    of live peppers changes.
    """
    overall: dict[Threepid, Change] = {}
    for change in changes:
        first = overall.get(change.threepid, change)
        overall[change.threepid] = change._replace(before=first.before)
    for live in await store.live_peppers(session):
        found: dict[str, str | None] = {}
        gone: set[str] = set()
        for threepid, before, after in overall.values():
            now = spellings(threepid.address, after.spelling) if after.user_id else ()
            then = spellings(threepid.address, before.spelling) if before else ()
            for address in now:
                found[lookup_hash(address, threepid.medium, live.pepper)] = after.user_id
            for address in then:
                if address not in now:
                    gone.add(lookup_hash(address, threepid.medium, live.pepper))
        if not live.is_complete:
            # A row that says "nobody" keeps whoever fills the table from bringing back what it read before.
            found.update(dict.fromkeys(gone))
        elif gone:
            await store.remove_hashes(session, live.slot, gone)
        if found:
            await store.put_hashes(session, live.slot, sorted(found.items()))
