"""Accounts that begin (Client-Server API, "Account registration", "Token-authenticated registration")."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field

from identity_server.homeserver.access.removal import OpenDeviceWatchers
from identity_server.homeserver.accounts import store as accounts
from identity_server.homeserver.accounts.client_api import DeviceName, DisplayName, Password
from identity_server.homeserver.accounts.interactive import Attempt, AuthenticationNeeded
from identity_server.homeserver.accounts.login import log_in
from identity_server.homeserver.accounts.passwords import OpenPasswords
from identity_server.homeserver.accounts.user_ids import user_id_for
from identity_server.homeserver.registration.begun import OpenBegun
from identity_server.homeserver.registration.flows import is_valid_token, wanted_of
from identity_server.homeserver.registration.register import check_free, register_account
from identity_server.homeserver.validation.own_account import OpenOwnAccount, OwnAccount
from identity_server.homeserver.validation.request_token import (
    EmailTokenRequest,
    MsisdnTokenRequest,
    pretended,
    request_token,
)
from identity_server.matrix.errors import Forbidden, ThreepidInUse
from identity_server.runtime.database import Database
from identity_server.runtime.dependencies import Limits, Now, OpenDatabase, OpenSettings, Random, Reading, Source
from identity_server.runtime.requests import Body, JsonRoute
from identity_server.runtime.tokens import Entropy
from identity_server.settings import Settings

router = APIRouter(prefix="/register", tags=["registration"], route_class=JsonRoute)
token_router = APIRouter(prefix="/_matrix/client/v1/register", tags=["registration"])


class Registration(Body):
    auth: Attempt | None = None
    username: str | None = None
    password: Password | None = None
    device_id: DeviceName | None = None
    initial_device_display_name: DisplayName | None = None
    inhibit_login: bool | Literal[0, 1] = False
    refresh_token: bool = False

    @property
    def wish(self) -> dict[str, Any]:
        """What was said of the account."""
        return {name: getattr(self, name) for name in self.model_fields_set - {"auth"}}


@router.post("")
async def register(
    body: Registration,
    database: OpenDatabase,
    passwords: OpenPasswords,
    settings: OpenSettings,
    own: OpenOwnAccount,
    limits: Limits,
    source: Source,
    entropy: Random,
    now_ms: Now,
    watchers: OpenDeviceWatchers,
    registrations: OpenBegun,
    kind: Literal["user", "guest"] = "user",
) -> dict[str, Any]:
    if kind == "guest":
        raise Forbidden("Guests are not admitted")
    _check_open(settings)
    await limits.hit("registration_per_source", source)
    homeserver = settings.homeserver
    session_id = body.auth.session if body.auth else None
    begun = registrations.find(session_id, now_ms=now_ms) if session_id else None
    if begun:
        body = body.model_copy(update={**begun.wish, **body.wish})
    device = None if body.inhibit_login else (body.device_id, body.initial_device_display_name)
    lifetime_ms = homeserver.access_token_lifetime if body.refresh_token else None
    if begun and begun.user_id and body.password is not None and device:
        # The account was made; the client did not hear of it.
        return await log_in(
            database,
            passwords,
            limits,
            user_id=begun.user_id,
            password=body.password,
            device=device,
            lifetime_ms=lifetime_ms,
            entropy=entropy,
            now_ms=now_ms,
            watchers=watchers,
        )
    try:
        made = await register_account(
            database,
            passwords,
            wanted_of(homeserver, own),
            username=body.username,
            password=body.password,
            attempt=body.auth,
            device=device,
            lifetime_ms=lifetime_ms,
            server_name=homeserver.name,
            entropy=entropy,
            now_ms=now_ms,
            watchers=watchers,
        )
    except AuthenticationNeeded as needed:
        registrations.remember(needed.body["session"], body.wish, now_ms=now_ms)
        raise
    if session_id:
        registrations.finish(session_id, made["user_id"])
    return made


@router.get("/available")
async def is_username_available(
    username: str, session: Reading, settings: OpenSettings, limits: Limits, source: Source
) -> dict[str, bool]:
    await limits.hit("registration_per_source", source)
    await check_free(session, user_id_for(username, settings.homeserver.name))
    return {"available": True}


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


@token_router.get("/m.login.registration_token/validity")
async def is_token_valid(
    token: Annotated[str, Field(max_length=1000)], settings: OpenSettings, limits: Limits, source: Source
) -> dict[str, bool]:
    await limits.hit("registration_per_source", source)
    _check_open(settings)
    return {"valid": is_valid_token(token, settings.homeserver.registration_tokens)}


def _check_open(settings: Settings) -> None:
    if not settings.homeserver.registration:
        raise Forbidden("Registration is disabled")


async def _request_token(
    body: EmailTokenRequest | MsisdnTokenRequest,
    database: Database,
    own: OwnAccount,
    settings: Settings,
    entropy: Entropy,
) -> dict[str, Any]:
    """Raises ``ThreepidInUse`` unless that is to be hidden."""
    own.trusted.url(body.id_server)
    async with database.reading() as session:
        is_in_use = await accounts.owner_of(session, body.threepid) is not None
    if not is_in_use:
        return await request_token(own, body, base_url=settings.homeserver_base_url)
    if settings.homeserver.hide_known_addresses:
        return pretended(entropy)
    raise ThreepidInUse("The address belongs to an account already")
