"""Asking for a validation token: the story that email and phone numbers share.

Two short transactions with the sending between them: no transaction waits for a mail server, and no message is sent
twice for one ``send_attempt``. The first transaction claims the attempt; if the message cannot be sent, the claim is
taken back, so that the client may try again with the same number.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.validation import store
from identity_server.identity.validation.sessions import Session
from identity_server.matrix.errors import InvalidParam, MatrixError
from identity_server.matrix.threepid import Threepid
from identity_server.runtime.database import Database
from identity_server.runtime.tokens import Entropy, token_hash
from identity_server.settings import ValidationSettings

_SID_LENGTH = 24

Send = Callable[[Session, str], Awaitable[None]]


@dataclass(frozen=True)
class TokenRequest:
    """What a client asks for. ``token`` is the fresh secret that would be sent, ``spelling`` as in the session."""

    threepid: Threepid
    spelling: str | None
    client_secret: str
    send_attempt: int
    next_link: str | None
    token: str


async def request_token(
    request: TokenRequest,
    send: Send,
    *,
    database: Database,
    settings: ValidationSettings,
    entropy: Entropy,
    now_ms: int,
) -> str:
    """The session's ID, after the token has been sent, unless ``send_attempt`` says that it already was.

    Raises what ``send`` raises, having changed nothing.
    """
    hashed = token_hash(request.token)
    async with database.transaction() as session:
        claimed, previous_attempt = await _claim(session, request, settings, entropy=entropy, now_ms=now_ms)
        if claimed.send_attempt == previous_attempt:
            return claimed.sid
        await store.add_token(session, claimed.sid, hashed)
    try:
        await send(claimed, request.token)
    except MatrixError:
        async with database.transaction() as session:
            await store.unsend(session, claimed.sid, hashed, claimed=claimed.send_attempt, previous=previous_attempt)
        raise
    return claimed.sid


async def _claim(
    session: AsyncSession, request: TokenRequest, settings: ValidationSettings, *, entropy: Entropy, now_ms: int
) -> tuple[Session, int]:
    """The session with the attempt claimed, and the attempt before it (the same, if nothing is to be sent)."""
    live = await store.live_session(session, request.threepid, request.client_secret)
    if live and live.ended(settings, now_ms):
        await store.supersede(session, live.sid)
        live = None
    if live is None:
        begun = Session(
            sid=entropy.token(_SID_LENGTH),
            threepid=request.threepid,
            spelling=request.spelling,
            client_secret=request.client_secret,
            send_attempt=request.send_attempt,
            next_link=request.next_link,
            modified_ts=now_ms,
        )
        if await store.add_session(session, begun):
            return begun, request.send_attempt - 1
        live = await store.live_session(session, request.threepid, request.client_secret)
        assert live is not None, "the session that was in the way has been committed"
    if request.send_attempt <= live.send_attempt:
        return live, live.send_attempt
    again = live.sent_again(request.send_attempt, request.next_link, now_ms)
    await store.save_session(session, again)
    return again, live.send_attempt


def check_next_link(next_link: str | None, *, settings: ValidationSettings, public_base_url: str) -> str | None:
    """``next_link``, if it may be followed. Raises ``InvalidParam``: an open redirect would serve phishing."""
    if next_link is None:
        return None
    try:
        origin = _origin(next_link)
        allowed = {_origin(url) for url in (public_base_url, *settings.next_link_origins)}
    except ValueError as error:
        raise InvalidParam("next_link is not a link") from error
    if origin not in allowed:
        raise InvalidParam("next_link leads to a site that is not allowed here")
    return next_link


def _origin(url: str) -> tuple[str, str, int | None]:
    # Browsers read a backslash as a slash and drop control characters: such a link has no one meaning.
    if "\\" in url or any(ord(character) <= 0x20 or ord(character) == 0x7F for character in url) or len(url) > 2000:
        raise ValueError("not a plain URL")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise ValueError("not an http(s) URL")
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}[parts.scheme]
