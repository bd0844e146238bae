"""Stating something: signed, in the log, and from then on what holds; all in the caller's transaction."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.associations import store
from identity_server.identity.associations.merge import Precedence, next_ts
from identity_server.identity.associations.statement import Statement
from identity_server.identity.associations.store import Current, Head
from identity_server.identity.signing.keyring import Keyring
from identity_server.matrix.threepid import Threepid


@dataclass(frozen=True)
class Stated:
    """``before`` and ``after``: what held for the address; ``signed``: the statement's wire form."""

    before: Current | None
    after: Current
    signed: dict[str, Any]


async def state_binding(
    session: AsyncSession, threepid: Threepid, user_id: str, spelling: str | None, *, keyring: Keyring, now_ms: int
) -> Stated:
    """State that ``threepid`` belongs to ``user_id``."""
    head = await store.lock_log(session)
    before = await store.current(session, threepid)
    statement = Statement.binding(threepid, user_id, next_ts(now_ms, before.precedence if before else None))
    return await _state(session, head, statement, before, spelling, keyring)


async def state_tombstone(
    session: AsyncSession, threepid: Threepid, user_id: str, *, keyring: Keyring, now_ms: int
) -> Stated | None:
    """State that ``threepid`` belongs to ``user_id`` no more; None if it does not."""
    head = await store.lock_log(session)
    before = await store.current(session, threepid)
    if before is None or before.user_id != user_id:
        return None
    statement = Statement.tombstone(threepid, next_ts(now_ms, before.precedence))
    return await _state(session, head, statement, before, None, keyring)


async def _state(
    session: AsyncSession,
    head: Head,
    statement: Statement,
    before: Current | None,
    spelling: str | None,
    keyring: Keyring,
) -> Stated:
    signed = keyring.sign(statement.as_json())
    key_id = keyring.current.key_id
    signature = signed["signatures"][keyring.server_name][key_id]
    await store.append(session, head, keyring.server_name, [store.Signed(statement, key_id, signature)])
    after = Current(statement.user_id, Precedence(statement.ts, keyring.server_name, head.position + 1), spelling)
    await store.put_current(session, [(statement.threepid, after)])
    return Stated(before, after, signed)
