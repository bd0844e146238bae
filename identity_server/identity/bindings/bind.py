"""Binding a proven address to a user (Identity Service API, POST /3pid/bind): the whole story, in one transaction."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.associations.state import state_binding
from identity_server.identity.invites.onbind import claim_and_notify
from identity_server.identity.lookup.index import Change, reindex
from identity_server.identity.signing.keyring import Keyring
from identity_server.identity.validation.submit_token import proven
from identity_server.runtime.tasks import Tasks
from identity_server.settings import ValidationSettings


async def bind(
    session: AsyncSession,
    sid: str,
    client_secret: str,
    user_id: str,
    *,
    settings: ValidationSettings,
    keyring: Keyring,
    tasks: Tasks,
    now_ms: int,
) -> dict[str, Any]:
    """The signed association. Raises ``NoValidSession``, ``SessionExpired`` or ``SessionNotValidated``."""
    proof, _ = await proven(session, sid, client_secret, settings=settings, now_ms=now_ms)
    stated = await state_binding(session, proof.threepid, user_id, proof.spelling, keyring=keyring, now_ms=now_ms)
    await reindex(session, [Change(proof.threepid, stated.before, stated.after)])
    await claim_and_notify(session, proof.threepid, user_id, keyring=keyring, tasks=tasks, now_ms=now_ms)
    return stated.signed
