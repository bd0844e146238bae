"""Accounts (Identity Service API, "Authentication")."""

from typing import Any

from fastapi import APIRouter, Request

from identity_server.identity.access import store
from identity_server.identity.access.current import authenticate, bearer_token
from identity_server.identity.accounts.register import OpenHomeservers, issue_token, prove_user
from identity_server.identity.terms.signed import SignedAccount
from identity_server.matrix.errors import Unauthorized, UnknownToken
from identity_server.matrix.identifiers import ServerName, Text
from identity_server.runtime.dependencies import Limits, Now, OpenDatabase, OpenResources, OpenSettings, Random, Source
from identity_server.runtime.requests import Body, JsonRoute

router = APIRouter(prefix="/_matrix/identity/v2/account", tags=["accounts"], route_class=JsonRoute)


class OpenIdToken(Body):
    access_token: Text
    matrix_server_name: ServerName


@router.post("/register")
async def register(
    body: OpenIdToken,
    homeservers: OpenHomeservers,
    database: OpenDatabase,
    settings: OpenSettings,
    limits: Limits,
    source: Source,
    entropy: Random,
    now_ms: Now,
) -> dict[str, str]:
    await limits.hit("register_per_source", source)
    user_id = await prove_user(homeservers, body.matrix_server_name, body.access_token, settings.federation)
    # Not before the homeserver has answered: no transaction waits for another server.
    async with database.transaction() as session:
        token = await issue_token(session, user_id, settings.accounts, entropy=entropy, now_ms=now_ms)
    # Older clients read `access_token`.
    return {"token": token, "access_token": token}


@router.get("")
async def get_account(account: SignedAccount) -> dict[str, str]:
    return {"user_id": account.user_id}


@router.post("/logout")
async def log_out(request: Request, resources: OpenResources) -> dict[str, Any]:
    try:
        account = await authenticate(request, resources)
    except Unauthorized as error:
        if bearer_token(request) is None:
            raise
        raise UnknownToken("Unrecognised access token") from error
    async with resources.database.transaction() as session:
        await store.remove_token(session, account.token_hash)
    return {}
