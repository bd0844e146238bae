"""Binding proven addresses to users (Identity Service API, POST /3pid/bind): the whole story, in one transaction.

The log takes one statement after the other, so who binds waits for who is binding; those that wait are bound together
(``runtime.together``).
"""

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.associations.state import state_bindings
from identity_server.identity.associations.store import Bound
from identity_server.identity.invites.onbind import claim_and_notify
from identity_server.identity.lookup.index import Change, reindex
from identity_server.identity.signing.keyring import Keyring
from identity_server.identity.validation.submit_token import proven_each
from identity_server.matrix.errors import MatrixError
from identity_server.runtime.clock import Clock
from identity_server.runtime.dependencies import opened
from identity_server.runtime.tasks import Tasks
from identity_server.runtime.together import Together
from identity_server.settings import ValidationSettings


class Binding(NamedTuple):
    """``sid`` and ``client_secret``: the validation session by which the user proved the address."""

    sid: str
    client_secret: str
    user_id: str


Signed = dict[str, Any]
OpenBind = Annotated[Together[Binding, Signed], opened("bind")]


async def bind(
    session: AsyncSession,
    wanted: Sequence[Binding],
    *,
    settings: ValidationSettings,
    keyring: Keyring,
    tasks: Tasks,
    clock: Clock,
) -> list[Signed | MatrixError]:
    """For each binding the signed association, or why there is none: ``NoValidSession``, ``SessionExpired`` or
    ``SessionNotValidated``."""
    now_ms = clock.now_ms()
    sessions = [(each.sid, each.client_secret) for each in wanted]
    proofs = await proven_each(session, sessions, settings=settings, now_ms=now_ms)
    bindings = [
        Bound(proof.threepid, each.user_id, proof.spelling)
        for each, proof in zip(wanted, proofs, strict=True)
        if not isinstance(proof, MatrixError)
    ]
    signed = iter(await bind_proven(session, bindings, keyring=keyring, tasks=tasks, now_ms=now_ms))
    return [proof if isinstance(proof, MatrixError) else next(signed) for proof in proofs]


async def bind_proven(
    session: AsyncSession, bindings: Sequence[Bound], *, keyring: Keyring, tasks: Tasks, now_ms: int
) -> list[Signed]:
    """The signed associations, in the same order. Whether the addresses are their users' is the caller's to know."""
    if not bindings:
        return []
    stated = await state_bindings(session, bindings, keyring=keyring, now_ms=now_ms)
    await reindex(session, [Change(each.threepid, each.before, each.after) for each in stated])
    await claim_and_notify(session, bindings, keyring=keyring, tasks=tasks, now_ms=now_ms)
    return [each.signed for each in stated]
