"""What a peer stated stops being answered: it was removed, its time is over, or its statement's is.

What others stated counts again where a peer's statements go. A statement that is over still wins over what is older:
its address belongs to nobody then, here as at every other server.
"""

from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.associations import store as associations
from identity_server.identity.associations.merge import Precedence, greatest
from identity_server.identity.associations.store import Current
from identity_server.identity.lookup.index import Change, reindex
from identity_server.identity.replication import store
from identity_server.matrix.threepid import Threepid
from identity_server.runtime.database import Database

# Everybody who states something waits for one transaction: some 50 ms.
_AT_ONCE = 1_000
_NOTHING = Current(None, Precedence(0, "", 0), None)


async def retire(database: Database, name: str, our_name: str) -> int:
    """Forget all that the peer stated; of how many addresses it was what held. Interrupted, it is begun again."""
    count = 0
    while True:
        async with database.transaction() as session:
            await associations.lock_log(session)
            first = await store.first_statements(session, name, _AT_ONCE)
            if not first:
                return count
            about = list({threepid for _, threepid in first})
            currents = await associations.currents(session, about)
            held = [threepid for threepid, current in currents.items() if current.precedence.origin == name]
            await _fall_back(session, {threepid: currents[threepid] for threepid in held}, name, our_name)
            await store.drop_statements(session, name, up_to=first[-1][0])
            count += len(held)


async def retire_ended(database: Database, our_name: str, now_ms: int) -> None:
    """Forget what peers stated whose time is over; let nothing be found whose ``not_after`` has passed."""
    async with database.reading() as session:
        peers = await store.peers(session)
    for peer in peers:
        if peer.is_over(now_ms):
            await retire(database, peer.name, our_name)
    while await _end_some(database, now_ms):
        pass


async def _end_some(database: Database, now_ms: int) -> bool:
    async with database.transaction() as session:
        await associations.lock_log(session)
        ended = await store.ended(session, now_ms=now_ms, limit=_AT_ONCE)
        if not ended:
            return False
        currents = await associations.currents(session, ended)
        changes = [Change(threepid, held, held._replace(user_id=None)) for threepid, held in currents.items()]
        await associations.put_current(session, [(change.threepid, change.after) for change in changes])
        await reindex(session, changes)
        return True


async def _fall_back(session: AsyncSession, held: Mapping[Threepid, Current], without: str, our_name: str) -> None:
    """Of each address in ``held`` let the greatest claim hold that is not made by ``without``; or nothing."""
    threepids = list(held)
    ours = await associations.claims(session, threepids, our_name)
    best = greatest(ours + await store.claims(session, threepids, without=without))
    changes = []
    for threepid, before in held.items():
        claim = best.get(threepid)
        after = Current(claim.user_id, claim.precedence, before.spelling) if claim else _NOTHING
        changes.append(Change(threepid, before, after))
    await associations.put_current(session, [(threepid, after) for threepid, _, after in changes if after != _NOTHING])
    await associations.forget(session, [threepid for threepid in threepids if threepid not in best])
    await reindex(session, changes)
