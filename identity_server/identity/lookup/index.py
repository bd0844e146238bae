"""Making an address findable, and unfindable, under each live pepper: part of the transaction that states it."""

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.associations.store import Current
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


def _hashes(addresses: set[str], threepid: Threepid, pepper: str) -> list[str]:
    return sorted(lookup_hash(address, threepid.medium, pepper) for address in addresses)
