"""Asking for a validation token: the story that email and phone numbers share.

Two short transactions with the sending between them: no transaction waits for a mail server, and no message is sent
twice for one ``send_attempt``. The first transaction claims the attempt; if the message cannot be sent, the claim is
taken back, so that the client may try again with the same number.
"""

from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from identity_server.identity.validation.attempts import Claimed, TokenRequest, give_back
from identity_server.identity.validation.sessions import Session
from identity_server.matrix.errors import InvalidParam, MatrixError
from identity_server.runtime.database import Database
from identity_server.runtime.together import Together
from identity_server.settings import ValidationSettings

Send = Callable[[Session, str], Awaitable[None]]


async def request_token(
    request: TokenRequest, send: Send, claim: Together[TokenRequest, Claimed], database: Database
) -> str:
    """The session's ID, after the token has been sent, unless ``send_attempt`` says that it already was.

    Raises what ``send`` raises, having changed nothing.
    """
    claimed = await claim(request)
    if claimed.is_to_be_sent:
        try:
            await send(claimed.session, request.token)
        except MatrixError:
            async with database.transaction() as session:
                await give_back(session, claimed, request.token)
            raise
    return claimed.session.sid


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
