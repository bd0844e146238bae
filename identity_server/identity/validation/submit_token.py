"""Submitting a token, and what a session has proven."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.validation import store
from identity_server.identity.validation.sessions import Session
from identity_server.matrix.errors import MatrixError, NoValidSession, TokenIncorrect
from identity_server.runtime.tokens import token_hash
from identity_server.settings import ValidationSettings


async def submit_token(
    session: AsyncSession,
    medium: str,
    sid: str,
    client_secret: str,
    token: str,
    *,
    settings: ValidationSettings,
    now_ms: int,
) -> Session:
    """The session, validated. Raises ``NoValidSession``, ``SessionExpired`` or ``TokenIncorrect``."""
    found = await store.find_session(session, sid, client_secret, for_update=True)
    if found is None or found.threepid.medium != medium:
        raise NoValidSession("No valid session was found matching that sid and client secret")
    after, verdict = found.submit(token_hash(token), await store.sent_tokens(session, sid), settings, now_ms)
    await store.save_session(session, after)
    if verdict == "wrong":
        raise TokenIncorrect("The token is incorrect")
    return after


async def proven(
    session: AsyncSession, sid: str, client_secret: str, *, settings: ValidationSettings, now_ms: int
) -> tuple[Session, int]:
    """A session and when it proved its address (ms).

    Raises ``NoValidSession``, ``SessionExpired`` or ``SessionNotValidated``.
    """
    return _proven(await store.find_session(session, sid, client_secret), settings, now_ms)


async def proven_each(
    session: AsyncSession, sessions: Sequence[tuple[str, str]], *, settings: ValidationSettings, now_ms: int
) -> list[Session | MatrixError]:
    """For each ``(sid, client_secret)`` its session, or in its place what ``proven`` would raise."""
    found = await store.find_sessions(session, sessions)
    proofs: list[Session | MatrixError] = []
    for named in sessions:
        try:
            proofs.append(_proven(found.get(named), settings, now_ms)[0])
        except MatrixError as error:
            proofs.append(error)
    return proofs


def _proven(found: Session | None, settings: ValidationSettings, now_ms: int) -> tuple[Session, int]:
    if found is None:
        raise NoValidSession("No valid session was found matching that sid and client secret")
    return found, found.proven_at(settings, now_ms)
