"""Proving a phone number: six digits by SMS."""

import string
from urllib.parse import urlsplit

import phonenumbers

from identity_server.identity.delivery.outlet import Outlet
from identity_server.identity.validation.attempts import TokenRequest
from identity_server.identity.validation.request_token import Send
from identity_server.identity.validation.sessions import Session
from identity_server.matrix.threepid import MSISDN, Threepid, canonical_msisdn
from identity_server.runtime.tokens import Entropy
from identity_server.settings import Settings

_TOKEN_LENGTH = 6


def msisdn_request(
    country: str, typed: str, client_secret: str, send_attempt: int, next_link: str | None, entropy: Entropy
) -> TokenRequest:
    """Raises ``InvalidAddress``."""
    return TokenRequest(
        Threepid(MSISDN, canonical_msisdn(country, typed)),
        None,
        client_secret,
        send_attempt,
        next_link,
        token=entropy.token(_TOKEN_LENGTH, string.digits),
    )


def msisdn_sender(outlet: Outlet, settings: Settings, language: str | None) -> Send:
    # The last line of the message binds the code to the site that asked for it (WebOTP), so that phones fill it in.
    domain = urlsplit(settings.public_base_url).hostname or settings.server.name

    async def send(session: Session, token: str) -> None:
        context = {"server_name": settings.server.name, "token": token, "domain": domain}
        await outlet.send_sms(session.threepid.address, "verification", language, context)

    return send


def number_prefix(msisdn: str) -> str:
    """Country calling code and the three digits after it: whom one carrier's numbering range belongs to."""
    country_code = phonenumbers.parse(f"+{msisdn}").country_code
    return msisdn[: len(str(country_code)) + 3]
