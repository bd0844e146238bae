"""New passwords (Client-Server API, "Password management")."""

from typing import Any

from fastapi import APIRouter

from identity_server.homeserver.access.current import PerhapsUser
from identity_server.homeserver.access.removal import OpenDeviceWatchers
from identity_server.homeserver.accounts import store as accounts
from identity_server.homeserver.accounts.client_api import Password
from identity_server.homeserver.accounts.confirm import Confirm
from identity_server.homeserver.accounts.interactive import Attempt
from identity_server.homeserver.accounts.passwords import OpenPasswords
from identity_server.homeserver.password_change.change import change_password, prove_address
from identity_server.homeserver.validation.own_account import OpenOwnAccount, OwnAccount
from identity_server.homeserver.validation.request_token import (
    EmailTokenRequest,
    MsisdnTokenRequest,
    pretended,
    request_token,
)
from identity_server.matrix.errors import MissingToken, ThreepidNotFound
from identity_server.runtime.database import Database
from identity_server.runtime.dependencies import Limits, Now, OpenDatabase, OpenSettings, Random, Source
from identity_server.runtime.requests import Body, JsonRoute
from identity_server.runtime.tokens import Entropy
from identity_server.settings import Settings

router = APIRouter(prefix="/account/password", tags=["passwords"], route_class=JsonRoute)


class PasswordChange(Body):
    auth: Attempt | None = None
    new_password: Password | None = None
    logout_devices: bool = True


@router.post("")
async def post_password(
    body: PasswordChange,
    user: PerhapsUser,
    database: OpenDatabase,
    passwords: OpenPasswords,
    confirm: Confirm,
    own: OpenOwnAccount,
    watchers: OpenDeviceWatchers,
    entropy: Random,
    now_ms: Now,
) -> dict[str, Any]:
    if user is not None:
        user_id, device_id = user.user_id, user.device_id
        proof = await confirm.user(user_id, body.auth, "POST /account/password")
    elif own.trusted.urls:
        device_id = None
        user_id, proof = await prove_address(database, own, body.auth, entropy=entropy, now_ms=now_ms)
    else:
        raise MissingToken("An access token is required")
    await change_password(
        database,
        passwords,
        proof,
        user_id=user_id,
        new_password=body.new_password,
        log_out_but=(device_id,) if body.logout_devices else None,
        watchers=watchers,
    )
    return {}


@router.post("/email/requestToken")
async def request_email_token(
    body: EmailTokenRequest,
    database: OpenDatabase,
    own: OpenOwnAccount,
    settings: OpenSettings,
    limits: Limits,
    source: Source,
    entropy: Random,
) -> dict[str, Any]:
    await limits.hit("request_token_per_source", source)
    return await _request_token(body, database, own, settings, entropy)


@router.post("/msisdn/requestToken")
async def request_msisdn_token(
    body: MsisdnTokenRequest,
    database: OpenDatabase,
    own: OpenOwnAccount,
    settings: OpenSettings,
    limits: Limits,
    source: Source,
    entropy: Random,
) -> dict[str, Any]:
    await limits.hit("request_token_per_source", source)
    return await _request_token(body, database, own, settings, entropy)


async def _request_token(
    body: EmailTokenRequest | MsisdnTokenRequest,
    database: Database,
    own: OwnAccount,
    settings: Settings,
    entropy: Entropy,
) -> dict[str, Any]:
    """Raises ``ThreepidNotFound`` unless that is to be hidden."""
    own.trusted.url(body.id_server)
    async with database.reading() as session:
        is_known = await accounts.owner_of(session, body.threepid) is not None
    if is_known:
        return await request_token(own, body, base_url=settings.homeserver_base_url)
    if settings.homeserver.hide_known_addresses:
        return pretended(entropy)
    raise ThreepidNotFound("The address belongs to no account")
