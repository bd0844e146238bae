"""Bindings (Identity Service API, "General")."""

from typing import Any

from fastapi import APIRouter, Request

from identity_server.identity.access.current import authenticate
from identity_server.identity.bindings.bind import Binding, OpenBind
from identity_server.identity.bindings.unbind import check_account, check_homeserver, check_session, unbind
from identity_server.identity.signing.keyring import OpenKeyring
from identity_server.identity.terms.signed import SignedAccount, require_terms
from identity_server.matrix.errors import Forbidden, NotEntitled
from identity_server.matrix.identifiers import Opaque, Text, UserID
from identity_server.matrix.origin_auth import NotAuthentic, verify_request
from identity_server.matrix.threepid import canonical
from identity_server.runtime.dependencies import (
    Now,
    OpenRemoteKeys,
    OpenResources,
    Source,
    Transaction,
)
from identity_server.runtime.requests import Body, JsonOrFormRoute, request_target
from identity_server.settings import Settings

router = APIRouter(prefix="/_matrix/identity/v2/3pid", tags=["bindings"], route_class=JsonOrFormRoute)


class Claim(Body):
    sid: Opaque
    client_secret: Opaque
    mxid: UserID


class BoundThreepid(Body):
    medium: Text
    address: Text


class Unbinding(Body):
    mxid: UserID
    threepid: BoundThreepid
    sid: Opaque | None = None
    client_secret: Opaque | None = None


@router.post("/bind")
async def bind_3pid(body: Claim, account: SignedAccount, bind: OpenBind) -> dict[str, Any]:
    if body.mxid != account.user_id:
        raise NotEntitled("An account binds addresses to its own user ID only")
    return await bind(Binding(body.sid, body.client_secret, body.mxid))


@router.post("/unbind")
async def unbind_3pid(
    body: Unbinding,
    request: Request,
    session: Transaction,
    resources: OpenResources,
    remote_keys: OpenRemoteKeys,
    keyring: OpenKeyring,
    source: Source,
    now_ms: Now,
) -> dict[str, Any]:
    await resources.limits.hit("unbind_per_source", source)
    threepid = canonical(body.threepid.medium, body.threepid.address)
    scheme = request.headers.get("authorization", "").partition(" ")[0].lower()
    if scheme == "x-matrix":
        check_homeserver(await _signing_homeserver(request, resources.settings, remote_keys, now_ms), body.mxid)
    elif body.sid is not None and body.client_secret is not None:
        await check_session(
            session, body.sid, body.client_secret, threepid, settings=resources.settings.validation, now_ms=now_ms
        )
    else:
        account = await require_terms(await authenticate(request, resources), resources)
        check_account(account.user_id, body.mxid)
    await unbind(session, threepid, body.mxid, keyring=keyring, now_ms=now_ms)
    return {}


async def _signing_homeserver(request: Request, settings: Settings, remote_keys: OpenRemoteKeys, now_ms: int) -> str:
    try:
        return await verify_request(
            request.headers["authorization"],
            method=request.method,
            uri=request_target(request.scope),
            content=await request.json(),
            our_names=settings.our_names,
            key_for=lambda server_name, key_id: remote_keys.verify_key(server_name, key_id, now_ms=now_ms),
        )
    except NotAuthentic as error:
        raise Forbidden("Invalid homeserver signature") from error
