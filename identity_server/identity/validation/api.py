"""Proving ownership of an address (Identity Service API, "Email associations", "Phone number associations")."""

import re
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import AfterValidator, BeforeValidator, Field

from identity_server.identity.delivery.outlet import OpenOutlet, Outlet
from identity_server.identity.terms.signed import SignedAccount
from identity_server.identity.validation.email import email_request, email_sender
from identity_server.identity.validation.msisdn import msisdn_request, msisdn_sender, number_prefix
from identity_server.identity.validation.request_token import Send, TokenRequest, check_next_link, request_token
from identity_server.identity.validation.submit_token import proven, submit_token
from identity_server.matrix.identifiers import Opaque, Text
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
Medium = Literal["email", "msisdn"]


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


@router.post("/validate/email/requestToken")
async def request_email_token(
    body: EmailTokenRequest,
    request: Request,
    account: SignedAccount,
    resources: OpenResources,
    outlet: OpenOutlet,
    source: Source,
) -> dict[str, str]:
    await resources.limits.hit("request_token_per_account", account.user_id)
    return {"sid": await ask_for_email_token(body, request, resources, outlet, source)}


@router.post("/validate/msisdn/requestToken")
async def request_msisdn_token(
    body: MsisdnTokenRequest,
    request: Request,
    account: SignedAccount,
    resources: OpenResources,
    outlet: OpenOutlet,
    source: Source,
) -> dict[str, str]:
    await resources.limits.hit("request_token_per_account", account.user_id)
    return {"sid": await ask_for_msisdn_token(body, request, resources, outlet, source)}


async def ask_for_email_token(
    body: EmailTokenRequest, request: Request, resources: Resources, outlet: Outlet, source: str
) -> str:
    """The session's ID."""
    wanted = email_request(body.email, body.client_secret, body.send_attempt, body.next_link, resources.entropy)
    send = email_sender(outlet, resources.settings, request.headers.get("accept-language"))
    return await _ask(wanted, send, resources, source)


async def ask_for_msisdn_token(
    body: MsisdnTokenRequest, request: Request, resources: Resources, outlet: Outlet, source: str
) -> str:
    """The session's ID."""
    wanted = msisdn_request(
        body.country, body.phone_number, body.client_secret, body.send_attempt, body.next_link, resources.entropy
    )
    await resources.limits.hit("request_token_per_prefix", number_prefix(wanted.threepid.address))
    send = msisdn_sender(outlet, resources.settings, request.headers.get("accept-language"))
    return await _ask(wanted, send, resources, source)


async def _ask(wanted: TokenRequest, send: Send, resources: Resources, source: str) -> str:
    settings, limits = resources.settings, resources.limits
    check_next_link(wanted.next_link, settings=settings.validation, public_base_url=settings.public_base_url)
    await limits.hit("request_token_per_source", source)
    await limits.hit("request_token_per_address", " ".join(wanted.threepid))
    return await request_token(
        wanted,
        send,
        database=resources.database,
        settings=settings.validation,
        entropy=resources.entropy,
        now_ms=resources.clock.now_ms(),
    )


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
