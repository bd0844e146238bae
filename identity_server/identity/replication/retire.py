"""When a peer is no longer trusted: what it stated stops being answered, and what others stated counts again."""

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.associations import store as associations
from identity_server.identity.associations.merge import Precedence
from identity_server.identity.associations.store import Current
from identity_server.identity.lookup.index import Change, reindex
from identity_server.identity.replication import store
from identity_server.matrix.threepid import Threepid
from identity_server.runtime.database import Database

_AT_ONCE = 500


async def retire(database: Database, name: str, our_name: str) -> int:
    """Forget all that the peer stated; of how many addresses it was what held. Interrupted, it is begun again."""
    count = 0
    while True:
        async with database.transaction() as session:
            await associations.lock_log(session)
            held = await store.held_by(session, name, _AT_ONCE)
            if not held:
                await store.drop_statements(session, name)
                return count
            for threepid in held:
                await _fall_back(session, threepid, without=name, our_name=our_name)
            count += len(held)


async def _fall_back(session: AsyncSession, threepid: Threepid, *, without: str, our_name: str) -> None:
    before = await associations.current(session, threepid)
    ours = [
        (Precedence(entry.ts, our_name, entry.position), entry.user_id)
        for entry in await associations.history(session, threepid)
    ]
    theirs = [
        (Precedence(statement.ts, origin, position), statement.user_id)
        for origin, position, statement in await store.statements_about(session, threepid)
        if origin != without
    ]
    if claims := ours + theirs:
        precedence, user_id = max(claims)
        after = Current(user_id, precedence, before.spelling if before else None)
        await associations.put_current(session, [(threepid, after)])
    else:
        after = Current(None, Precedence(0, "", 0), None)
        await associations.forget(session, threepid)
    await reindex(session, [Change(threepid, before, after)])
