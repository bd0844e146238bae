"""Sessions: logging in, refreshing, logging out (Client-Server API, "Client Authentication", "Legacy API")."""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from identity_server.homeserver.access.current import CurrentUser
from identity_server.homeserver.access.issue import refresh
from identity_server.homeserver.access.removal import OpenDeviceWatchers, remove_all_devices, remove_devices
from identity_server.homeserver.accounts.confirm import Confirm
from identity_server.homeserver.accounts.identifiers import UserIdentifier, named_user
from identity_server.homeserver.accounts.interactive import PASSWORD, Attempt, finish
from identity_server.homeserver.accounts.login import log_in, log_in_by_token
from identity_server.homeserver.accounts.login_tokens import LIFETIME_MS, OpenLoginTokens
from identity_server.homeserver.accounts.passwords import OpenPasswords
from identity_server.homeserver.accounts.store import password_hash
from identity_server.matrix.errors import MatrixError, MissingParam
from identity_server.matrix.identifiers import Text
from identity_server.runtime.dependencies import (
    Limits,
    Now,
    OpenDatabase,
    OpenSettings,
    Random,
    Source,
    Transaction,
)
from identity_server.runtime.requests import Body, JsonOrNothingRoute, JsonRoute

router = APIRouter(tags=["accounts"], route_class=JsonRoute)
router_v1 = APIRouter(tags=["accounts"], route_class=JsonOrNothingRoute)

TOKEN = "m.login.token"

Password = Annotated[str, Field(max_length=512)]
DeviceName = Annotated[Text, Field(min_length=1, max_length=255)]
DisplayName = Annotated[Text, Field(max_length=255)]


class Login(Body):
    type: str
    identifier: UserIdentifier | None = None
    user: Text | None = None
    medium: Text | None = None
    address: Text | None = None
    password: Password | None = None
    token: Password | None = None
    device_id: DeviceName | None = None
    initial_device_display_name: DisplayName | None = None
    refresh_token: bool = False

    @property
    def named(self) -> UserIdentifier:
        """Whom the request names, the deprecated ways included. Raises ``MissingParam``."""
        if self.identifier is not None:
            return self.identifier
        if self.user is not None:
            return UserIdentifier(type="m.id.user", user=self.user)
        if self.medium is not None:
            return UserIdentifier(type="m.id.thirdparty", medium=self.medium, address=self.address)
        raise MissingParam("identifier is missing")


class TokenWish(Body):
    auth: Attempt | None = None


class Refreshing(Body):
    refresh_token: str


@router.get("/login")
async def get_login_flows() -> dict[str, Any]:
    return {"flows": [{"type": PASSWORD}, {"type": TOKEN, "get_login_token": True}]}


@router.post("/login")
async def post_login(
    body: Login,
    database: OpenDatabase,
    passwords: OpenPasswords,
    settings: OpenSettings,
    limits: Limits,
    source: Source,
    entropy: Random,
    now_ms: Now,
    watchers: OpenDeviceWatchers,
    login_tokens: OpenLoginTokens,
) -> dict[str, Any]:
    await limits.hit("login_per_source", source)
    device = (body.device_id, body.initial_device_display_name)
    lifetime_ms = settings.homeserver.access_token_lifetime if body.refresh_token else None
    if body.type == TOKEN:
        if body.token is None:
            raise MissingParam("token is missing")
        ticket = login_tokens.take(body.token, now_ms=now_ms)
        return await log_in_by_token(
            database,
            ticket,
            device=device,
            lifetime_ms=lifetime_ms,
            entropy=entropy,
            now_ms=now_ms,
            watchers=watchers,
        )
    if body.type != PASSWORD:
        raise MatrixError("Unknown login type")
    async with database.reading() as session:
        user_id = await named_user(session, body.named, settings.homeserver.name)
    if body.password is None:
        raise MissingParam("password is missing")
    return await log_in(
        database,
        passwords,
        limits,
        user_id=user_id,
        password=body.password,
        device=device,
        lifetime_ms=lifetime_ms,
        entropy=entropy,
        now_ms=now_ms,
        watchers=watchers,
    )


@router_v1.post("/login/get_token")
async def get_login_token(
    body: TokenWish,
    user: CurrentUser,
    confirm: Confirm,
    session: Transaction,
    login_tokens: OpenLoginTokens,
    entropy: Random,
    now_ms: Now,
) -> dict[str, Any]:
    proof = await confirm.user(user.user_id, body.auth, "POST /login/get_token")
    await finish(session, proof)
    hashed = await password_hash(session, user.user_id)
    token = login_tokens.issue(user.user_id, hashed or "", entropy=entropy, now_ms=now_ms)
    return {"login_token": token, "expires_in_ms": LIFETIME_MS}


@router.post("/refresh")
async def refresh_tokens(
    body: Refreshing, session: Transaction, settings: OpenSettings, entropy: Random, now_ms: Now
) -> dict[str, Any]:
    lifetime_ms = settings.homeserver.access_token_lifetime
    return await refresh(session, body.refresh_token, entropy=entropy, now_ms=now_ms, lifetime_ms=lifetime_ms)


@router.post("/logout")
async def log_out(user: CurrentUser, session: Transaction, watchers: OpenDeviceWatchers) -> dict[str, Any]:
    await remove_devices(session, user.user_id, [user.device_id], watchers=watchers)
    return {}


@router.post("/logout/all")
async def log_out_everywhere(user: CurrentUser, session: Transaction, watchers: OpenDeviceWatchers) -> dict[str, Any]:
    await remove_all_devices(session, user.user_id, watchers=watchers)
    return {}


@router.get("/account/whoami")
async def who_am_i(user: CurrentUser) -> dict[str, Any]:
    return {"user_id": user.user_id, "device_id": user.device_id, "is_guest": False}
