"""Proving ownership of an address (Identity Service API, "Email associations", "Phone number associations")."""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import AfterValidator, BeforeValidator, Field

from identity_server.identity.delivery.outlet import OpenOutlet, Outlet
from identity_server.identity.terms.signed import SignedAccount
from identity_server.identity.validation.attempts import OpenClaim, TokenRequest
from identity_server.identity.validation.email import email_request, email_sender
from identity_server.identity.validation.msisdn import msisdn_request, msisdn_sender, number_prefix
from identity_server.identity.validation.request_token import Send, check_next_link, request_token
from identity_server.identity.validation.submit_token import proven, submit_token
from identity_server.matrix.errors import Unrecognized
from identity_server.matrix.identifiers import Opaque, Text
from identity_server.matrix.threepid import EMAIL, MSISDN, mailbox
from identity_server.runtime.dependencies import (
    Limits,
    Now,
    OpenResources,
    OpenSettings,
    Reading,
    Source,
    Transaction,
)
from identity_server.runtime.requests import Body, JsonOrFormRoute
from identity_server.runtime.resources import Resources

router = APIRouter(prefix="/_matrix/identity/v2", tags=["validation"], route_class=JsonOrFormRoute)


def _whole_number(value: Any) -> Any:
    # Clients send strings too, and so do forms.
    return int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,15}", value) else value


def _country(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z]{2}", value):
        raise ValueError("must be a two-letter country code")
    return value.upper()


SendAttempt = Annotated[int, BeforeValidator(_whole_number), Field(ge=0, le=2**53 - 1)]
Token = Annotated[Text, Field(max_length=255)]


async def _known(medium: str) -> str:
    """Raises ``Unrecognized``: for other media there is no such path."""
    if medium not in (EMAIL, MSISDN):
        raise Unrecognized("Unrecognized request")
    return medium


# Where it stands first in a signature it is looked at before the token of whoever asks, as with any unknown path.
Medium = Annotated[Literal["email", "msisdn"], Depends(_known)]


class EmailTokenRequest(Body):
    client_secret: Opaque
    email: Text
    send_attempt: SendAttempt
    next_link: Text | None = None


class MsisdnTokenRequest(Body):
    client_secret: Opaque
    country: Annotated[str, AfterValidator(_country)]
    phone_number: Annotated[Text, Field(max_length=100)]
    send_attempt: SendAttempt
    next_link: Text | None = None


class SubmittedToken(Body):
    sid: Opaque
    client_secret: Opaque
    token: Token


@dataclass(frozen=True)
class Asking:
    """Somebody asks for a token: from where, in which languages, and what it takes to answer."""

    resources: Resources
    outlet: Outlet
    claim: OpenClaim
    source: str
    languages: str | None

    async def for_email(self, body: EmailTokenRequest) -> str:
        """The session's ID."""
        wanted = email_request(
            body.email, body.client_secret, body.send_attempt, body.next_link, self.resources.entropy
        )
        return await self._ask(wanted, email_sender(self.outlet, self.resources.settings, self.languages))

    async def for_msisdn(self, body: MsisdnTokenRequest) -> str:
        """The session's ID."""
        wanted = msisdn_request(
            body.country,
            body.phone_number,
            body.client_secret,
            body.send_attempt,
            body.next_link,
            self.resources.entropy,
        )
        await self.resources.limits.hit("request_token_per_prefix", number_prefix(wanted.threepid.address))
        return await self._ask(wanted, msisdn_sender(self.outlet, self.resources.settings, self.languages))

    async def _ask(self, wanted: TokenRequest, send: Send) -> str:
        settings, limits = self.resources.settings, self.resources.limits
        check_next_link(wanted.next_link, settings=settings.validation, public_base_url=settings.public_base_url)
        await limits.hit("request_token_per_source", self.source)
        await limits.hit("request_token_per_address", mailbox(wanted.threepid))
        return await request_token(wanted, send, self.claim, self.resources.database)


async def _asking(
    request: Request, resources: OpenResources, outlet: OpenOutlet, claim: OpenClaim, source: Source
) -> Asking:
    return Asking(resources, outlet, claim, source, request.headers.get("accept-language"))


Asked = Annotated[Asking, Depends(_asking)]


@router.post("/validate/email/requestToken")
async def request_email_token(
    body: EmailTokenRequest, account: SignedAccount, limits: Limits, asked: Asked
) -> dict[str, str]:
    await limits.hit("request_token_per_account", account.user_id)
    return {"sid": await asked.for_email(body)}


@router.post("/validate/msisdn/requestToken")
async def request_msisdn_token(
    body: MsisdnTokenRequest, account: SignedAccount, limits: Limits, asked: Asked
) -> dict[str, str]:
    await limits.hit("request_token_per_account", account.user_id)
    return {"sid": await asked.for_msisdn(body)}


@router.post("/validate/{medium}/submitToken")
async def submit(
    medium: Medium,
    body: SubmittedToken,
    _account: SignedAccount,
    session: Transaction,
    settings: OpenSettings,
    limits: Limits,
    source: Source,
    now_ms: Now,
) -> dict[str, bool]:
    await limits.hit("submit_token_per_source", source)
    await submit_token(
        session, medium, body.sid, body.client_secret, body.token, settings=settings.validation, now_ms=now_ms
    )
    return {"success": True}


@router.get("/3pid/getValidated3pid")
async def get_validated_3pid(
    sid: Opaque, client_secret: Opaque, _account: SignedAccount, session: Reading, settings: OpenSettings, now_ms: Now
) -> dict[str, Any]:
    found, validated_ts = await proven(session, sid, client_secret, settings=settings.validation, now_ms=now_ms)
    return {"medium": found.threepid.medium, "address": found.threepid.address, "validated_at": validated_ts}
