"""Stating something: signed, in the log, and from then on what holds; all in the caller's transaction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.associations import store
from identity_server.identity.associations.merge import Precedence, next_ts
from identity_server.identity.associations.statement import Statement
from identity_server.identity.associations.store import Bound, Current, Head
from identity_server.identity.signing.keyring import Keyring
from identity_server.matrix.threepid import Threepid


@dataclass(frozen=True)
class Stated:
    """``before`` and ``after``: what held for the address; ``signed``: the statement's wire form."""

    threepid: Threepid
    before: Current | None
    after: Current
    signed: dict[str, Any]


async def state_bindings(
    session: AsyncSession, bindings: Sequence[Bound], *, keyring: Keyring, now_ms: int
) -> list[Stated]:
    """State that each address belongs to its user, in this order."""
    head = await store.lock_log(session)
    held = await store.currents(session, [bound.threepid for bound in bindings])
    said: list[_Said] = []
    for position, (threepid, user_id, spelling) in enumerate(bindings, start=head.position + 1):
        before = held.get(threepid)
        statement = Statement.binding(threepid, user_id, next_ts(now_ms, before.precedence if before else None))
        held[threepid] = Current(user_id, Precedence(statement.ts, keyring.server_name, position), spelling)
        said.append(_Said(statement, before, held[threepid]))
    return await _state(session, head, said, keyring)


async def state_tombstone(
    session: AsyncSession, threepid: Threepid, user_id: str, *, keyring: Keyring, now_ms: int
) -> Stated | None:
    """State that ``threepid`` belongs to ``user_id`` no more; None if it does not."""
    head = await store.lock_log(session)
    before = await store.current(session, threepid)
    if before is None or before.user_id != user_id:
        return None
    statement = Statement.tombstone(threepid, next_ts(now_ms, before.precedence))
    after = Current(None, Precedence(statement.ts, keyring.server_name, head.position + 1), None)
    (stated,) = await _state(session, head, [_Said(statement, before, after)], keyring)
    return stated


class _Said(NamedTuple):
    statement: Statement
    before: Current | None
    after: Current


async def _state(session: AsyncSession, head: Head, said: Sequence[_Said], keyring: Keyring) -> list[Stated]:
    key_id = keyring.current.key_id
    stated, entries = [], []
    for statement, before, after in said:
        signed = keyring.sign(statement.as_json())
        entries.append(store.Signed(statement, key_id, signed["signatures"][keyring.server_name][key_id]))
        stated.append(Stated(statement.threepid, before, after, signed))
    await store.append(session, head, keyring.server_name, entries)
    await store.put_current(session, list({each.threepid: each.after for each in stated}.items()))
    return stated
