"""Proving ownership of an address (Identity Service API, "Email associations", "Phone number associations")."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import AfterValidator, BeforeValidator, Field

from identity_server.identity.delivery.outlet import OpenOutlet
from identity_server.identity.terms.signed import SignedAccount
from identity_server.identity.validation.email import email_request, email_sender
from identity_server.matrix.identifiers import Opaque, Text
from identity_server.runtime.dependencies import OpenResources, Source
from identity_server.runtime.requests import Body, JsonOrFormRoute

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
    settings = resources.settings
    wanted = email_request(
        body.email, body.client_secret, body.send_attempt, _next_link(body, settings), resources.entropy
    )
    await _limit(resources, wanted, account, source)
    send = email_sender(outlet, settings, request.headers.get("accept-language"))
    return {"sid": await _request(wanted, send, resources)}
