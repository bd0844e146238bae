"""Proving an email address: a link, and the token in it to type."""

from urllib.parse import urlencode

from identity_server.identity.delivery.outlet import Outlet
from identity_server.identity.validation.attempts import TokenRequest
from identity_server.identity.validation.request_token import Send
from identity_server.identity.validation.sessions import Session
from identity_server.matrix.threepid import EMAIL, Threepid, canonical_email, lowercase_spelling
from identity_server.runtime.tokens import Entropy
from identity_server.settings import Settings

_TOKEN_LENGTH = 32


def email_request(
    typed: str, client_secret: str, send_attempt: int, next_link: str | None, entropy: Entropy
) -> TokenRequest:
    """Raises ``InvalidEmail``."""
    address = canonical_email(typed)
    return TokenRequest(
        Threepid(EMAIL, address),
        lowercase_spelling(typed, address),
        client_secret,
        send_attempt,
        next_link,
        token=entropy.token(_TOKEN_LENGTH),
    )


def email_sender(outlet: Outlet, settings: Settings, language: str | None) -> Send:
    """Sends a session's token to its address: the canonical one, for that is what the token will prove."""

    async def send(session: Session, token: str) -> None:
        context = {
            "server_name": settings.server.name,
            "token": token,
            "link": confirmation_link(settings.public_base_url, session, token),
            **_lifetime(settings.validation.session_lifetime),
        }
        await outlet.send_email(session.threepid.address, "verification", language, context)

    return send


def confirmation_link(base_url: str, session: Session, token: str) -> str:
    query = urlencode({"token": token, "client_secret": session.client_secret, "sid": session.sid})
    return f"{base_url}/_matrix/identity/v2/validate/{session.threepid.medium}/submitToken?{query}"


def _lifetime(lifetime_ms: int) -> dict[str, int]:
    """As the templates are to say it: in minutes if there are any, for hours are too coarse for a short one."""
    hours, rest_ms = divmod(lifetime_ms, 3_600_000)
    is_said_in_hours = hours >= 2 and not rest_ms
    return {"lifetime_hours": hours, "lifetime_minutes": 0 if is_said_in_hours else max(1, lifetime_ms // 60_000)}
