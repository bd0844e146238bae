"""The v1 API, which the specification has dropped, for those who still call it.

It knows no access tokens, so ``compatibility.v1_api`` is off by default, and only the addresses in
``compatibility.v1_callers`` may call: homeservers that let phone numbers be validated here
(``account_threepid_delegates``) need ``msisdn_only``. The functions are those of v2; only the door is another.
"""

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.associations import store as associations
from identity_server.identity.associations.statement import Statement
from identity_server.identity.associations.store import users
from identity_server.identity.bindings.api import Claim, unbind_3pid
from identity_server.identity.bindings.bind import Binding, OpenBind
from identity_server.identity.invites.accept import sign_acceptance
from identity_server.identity.invites.api import Acceptance, InviteRequest, invite_for, is_ephemeral_key_valid
from identity_server.identity.signing.api import get_public_key, is_public_key_valid
from identity_server.identity.signing.keyring import OpenKeyring
from identity_server.identity.validation.api import (
    Asked,
    EmailTokenRequest,
    MsisdnTokenRequest,
    SubmittedToken,
)
from identity_server.identity.validation.submit_token import proven, submit_token
from identity_server.identity.web.api import open_link
from identity_server.matrix.errors import Forbidden, MatrixError
from identity_server.matrix.identifiers import Opaque, Text
from identity_server.matrix.threepid import Threepid, canonical
from identity_server.runtime.dependencies import (
    Now,
    OpenResources,
    OpenSettings,
    OpenTasks,
    Reading,
    Source,
    Transaction,
)
from identity_server.runtime.requests import Body, JsonOrFormRoute
from identity_server.settings import CompatibilitySettings

_PREFIX = "/_matrix/identity/api/v1"


async def may_call(settings: OpenSettings, source: Source) -> None:
    """Raises ``Forbidden`` for callers that are not listed."""
    try:
        caller = ip_address(source)
    except ValueError as error:
        raise Forbidden("Callers of the v1 API are known by their address") from error
    if not any(caller in network for network in settings.compatibility.v1_callers):
        raise Forbidden("This address may not call the v1 API")


# What a homeserver needs to have phone numbers validated here.
msisdn = APIRouter(prefix=_PREFIX, tags=["v1"], route_class=JsonOrFormRoute, dependencies=[Depends(may_call)])
# All the rest.
others = APIRouter(prefix=_PREFIX, tags=["v1"], route_class=JsonOrFormRoute, dependencies=[Depends(may_call)])

_OFFERED: Mapping[str, Sequence[APIRouter]] = {"off": (), "msisdn_only": (msisdn,), "all": (msisdn, others)}


def offered(settings: CompatibilitySettings) -> Sequence[APIRouter]:
    """What is switched on; all the rest is an unknown path."""
    return _OFFERED[settings.v1_api]


@msisdn.post("/validate/msisdn/requestToken")
async def request_msisdn_token(body: MsisdnTokenRequest, asked: Asked) -> dict[str, str]:
    return {"sid": await asked.for_msisdn(body)}


@msisdn.post("/validate/msisdn/submitToken")
async def submit_msisdn_token(
    body: SubmittedToken, session: Transaction, resources: OpenResources, source: Source
) -> dict[str, bool]:
    return await _submit("msisdn", body, session, resources, source)


@msisdn.get("/3pid/getValidated3pid")
async def get_validated_3pid(
    sid: Opaque, client_secret: Opaque, session: Reading, settings: OpenSettings, now_ms: Now
) -> dict[str, Any]:
    found, validated_ts = await proven(session, sid, client_secret, settings=settings.validation, now_ms=now_ms)
    return {"medium": found.threepid.medium, "address": found.threepid.address, "validated_at": validated_ts}


@others.get("")
async def ping() -> dict[str, Any]:
    return {}


@others.post("/validate/email/requestToken")
async def request_email_token(body: EmailTokenRequest, asked: Asked) -> dict[str, str]:
    return {"sid": await asked.for_email(body)}


@others.post("/validate/email/submitToken")
async def submit_email_token(
    body: SubmittedToken, session: Transaction, resources: OpenResources, source: Source
) -> dict[str, bool]:
    return await _submit("email", body, session, resources, source)


async def _submit(
    medium: str, body: SubmittedToken, session: AsyncSession, resources: OpenResources, source: str
) -> dict[str, bool]:
    await resources.limits.hit("submit_token_per_source", source)
    await submit_token(
        session,
        medium,
        body.sid,
        body.client_secret,
        body.token,
        settings=resources.settings.validation,
        now_ms=resources.clock.now_ms(),
    )
    return {"success": True}


@others.post("/3pid/bind")
async def bind_3pid(body: Claim, bind: OpenBind) -> dict[str, Any]:
    return await bind(Binding(body.sid, body.client_secret, body.mxid))


class BulkLookup(Body):
    threepids: list[Annotated[list[Text], Field(min_length=2, max_length=2)]]


@others.get("/lookup")
async def look_up(medium: Text, address: Text, session: Reading, keyring: OpenKeyring) -> dict[str, Any]:
    threepid = canonical(medium, address)
    held = await associations.current(session, threepid)
    if held is None or held.user_id is None:
        return {}
    return keyring.sign(Statement.binding(threepid, held.user_id, held.precedence.ts).as_json())


@others.post("/bulk_lookup")
async def look_up_many(body: BulkLookup, session: Reading) -> dict[str, Any]:
    asked: dict[tuple[str, str], Threepid] = {}
    for medium, address in body.threepids:
        try:
            asked[medium, address] = canonical(medium, address)
        except MatrixError:
            continue
    bound = await users(session, list(asked.values()))
    return {"threepids": [[*pair, bound[threepid]] for pair, threepid in asked.items() if threepid in bound]}


@others.post("/store-invite")
async def invite(
    body: InviteRequest,
    request: Request,
    session: Transaction,
    keyring: OpenKeyring,
    tasks: OpenTasks,
    resources: OpenResources,
    now_ms: Now,
) -> dict[str, Any]:
    stored = await invite_for(body, request, session, keyring, tasks, resources, now_ms)
    return {**stored, "public_key": stored["public_keys"][0]["public_key"]}  # v1 knew one key only


@others.post("/sign-ed25519")
async def sign(body: Acceptance, session: Reading, settings: OpenSettings, now_ms: Now) -> dict[str, Any]:
    return await sign_acceptance(
        session,
        settings.server.name,
        user_id=body.mxid,
        token=body.token,
        private_key=body.private_key,
        must_match=False,
        now_ms=now_ms,
    )


others.post("/3pid/unbind")(unbind_3pid)
others.get("/validate/{medium}/submitToken")(open_link)
others.get("/pubkey/isvalid")(is_public_key_valid)
others.get("/pubkey/ephemeral/isvalid")(is_ephemeral_key_valid)
others.get("/pubkey/{key_id}")(get_public_key)
