"""Undoing a binding (Identity Service API, POST /3pid/unbind): who may, and what it does."""

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.associations.state import state_tombstone
from identity_server.identity.lookup.index import Change, reindex
from identity_server.identity.signing.keyring import Keyring
from identity_server.identity.validation.submit_token import proven
from identity_server.matrix.errors import Forbidden
from identity_server.matrix.identifiers import domain_of
from identity_server.matrix.threepid import Threepid
from identity_server.settings import ValidationSettings


async def unbind(session: AsyncSession, threepid: Threepid, user_id: str, *, keyring: Keyring, now_ms: int) -> None:
    """Let nothing of ``threepid`` be found; nothing happens if it does not belong to ``user_id``."""
    stated = await state_tombstone(session, threepid, user_id, keyring=keyring, now_ms=now_ms)
    if stated is not None:
        await reindex(session, [Change(threepid, stated.before, stated.after)])


async def check_session(
    session: AsyncSession,
    sid: str,
    client_secret: str,
    threepid: Threepid,
    *,
    settings: ValidationSettings,
    now_ms: int,
) -> None:
    """Whoever owns the address may. Raises ``Forbidden`` if the session proves another, and what ``proven`` raises."""
    proof, _ = await proven(session, sid, client_secret, settings=settings, now_ms=now_ms)
    if proof.threepid != threepid:
        raise Forbidden("The session proves another third-party identifier")


def check_homeserver(origin: str, user_id: str) -> None:
    """The user's homeserver may."""
    if domain_of(user_id) != origin:
        raise Forbidden("Only the user's own homeserver may unbind")


def check_account(account_user_id: str, user_id: str) -> None:
    """The user may."""
    if account_user_id != user_id:
        raise Forbidden("Only the user's own account may unbind")
