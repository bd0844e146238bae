"""Making an address findable, and unfindable, under each live pepper: part of the transaction that states it."""

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.associations.store import Bound, Current
from identity_server.identity.lookup import store
from identity_server.identity.lookup.pepper import lookup_hash, spellings
from identity_server.matrix.threepid import Threepid


async def reindex(session: AsyncSession, threepid: Threepid, before: Current | None, after: Current) -> None:
    """Let lookups answer ``after``. The caller holds the association log's lock, as whoever begins a rotation does:
    so no address is stated while the set of live peppers changes."""
    findable = set(spellings(threepid, after.spelling)) if after.user_id else set()
    gone = set(spellings(threepid, before.spelling)) - findable if before else set()
    for live in await store.live_peppers(session):
        if findable:
            await store.put_hashes(session, live.slot, _hashes(findable, threepid, live.pepper), after.user_id)
        if gone and live.state == "building":
            await store.put_hashes(session, live.slot, _hashes(gone, threepid, live.pepper), None)
        elif gone:
            await store.remove_hashes(session, live.slot, _hashes(gone, threepid, live.pepper))


async def index_bulk(session: AsyncSession, stated: list[Bound]) -> None:
    """Make addresses findable of which nothing was known before, many at once."""
    for live in await store.live_peppers(session):
        rows = sorted(
            (lookup_hash(address, bound.threepid.medium, live.pepper), bound.user_id)
            for bound in stated
            for address in spellings(bound.threepid, bound.spelling)
        )
        await store.add_hashes(session, live.slot, rows)


def _hashes(addresses: set[str], threepid: Threepid, pepper: str) -> list[str]:
    return sorted(lookup_hash(address, threepid.medium, pepper) for address in addresses)
