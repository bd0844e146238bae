"""Accounts and sessions (Client-Server API, "Client Authentication", "Legacy API")."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field

from identity_server.homeserver.access import store as access
from identity_server.homeserver.access.current import CurrentUser
from identity_server.homeserver.accounts.interactive import Attempt
from identity_server.homeserver.accounts.login import PASSWORD, log_in, named_user_id
from identity_server.homeserver.accounts.passwords import OpenPasswords
from identity_server.homeserver.accounts.register import check_free, register_account, user_id_for
from identity_server.matrix.errors import Forbidden, MatrixError, MissingParam
from identity_server.matrix.identifiers import Text
from identity_server.runtime.dependencies import (
    Limits,
    Now,
    OpenDatabase,
    OpenSettings,
    Random,
    Reading,
    Source,
    Transaction,
)
from identity_server.runtime.requests import Body, JsonRoute

router = APIRouter(tags=["accounts"], route_class=JsonRoute)

Password = Annotated[str, Field(max_length=512)]
DeviceName = Annotated[Text, Field(min_length=1, max_length=255)]


class Registration(Body):
    auth: Attempt | None = None
    username: str | None = None
    password: Password | None = None
    device_id: DeviceName | None = None
    initial_device_display_name: Annotated[Text, Field(max_length=255)] | None = None
    inhibit_login: bool = False


class UserIdentifier(Body):
    type: str
    user: Text | None = None


class Login(Body):
    type: str
    identifier: UserIdentifier | None = None
    user: Text | None = None
    password: Password | None = None
    device_id: DeviceName | None = None
    initial_device_display_name: Annotated[Text, Field(max_length=255)] | None = None

    @property
    def named_user(self) -> str:
        """Whom the request names. Raises ``MissingParam``, ``Forbidden`` and ``MatrixError``."""
        match self.identifier:
            case None:
                user = self.user  # deprecated
            case UserIdentifier(type="m.id.user"):
                user = self.identifier.user
            case UserIdentifier(type="m.id.thirdparty" | "m.id.phone"):
                # The answer to a third-party identifier that we do not know ("Login").
                raise Forbidden("Invalid username or password")
            case _:
                raise MatrixError("Unknown identifier type")
        if user is None:
            raise MissingParam("identifier.user is missing")
        return user


@router.get("/login")
async def get_login_flows() -> dict[str, Any]:
    return {"flows": [{"type": PASSWORD}]}


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
) -> dict[str, str]:
    await limits.hit("login_per_source", source)
    if body.type != PASSWORD:
        raise MatrixError("Unknown login type")
    user_id = named_user_id(body.named_user, settings.homeserver.name)
    if body.password is None:
        raise MissingParam("password is missing")
    await limits.hit("login_per_user", user_id)
    return await log_in(
        database,
        passwords,
        user_id=user_id,
        password=body.password,
        device=(body.device_id, body.initial_device_display_name),
        entropy=entropy,
        now_ms=now_ms,
    )


@router.post("/logout")
async def log_out(user: CurrentUser, session: Transaction) -> dict[str, Any]:
    await access.remove_device(session, user.user_id, user.device_id)
    return {}


@router.post("/logout/all")
async def log_out_everywhere(user: CurrentUser, session: Transaction) -> dict[str, Any]:
    await access.remove_devices(session, user.user_id)
    return {}


@router.post("/register")
async def register(
    body: Registration,
    database: OpenDatabase,
    passwords: OpenPasswords,
    settings: OpenSettings,
    limits: Limits,
    source: Source,
    entropy: Random,
    now_ms: Now,
    kind: Literal["user", "guest"] = "user",
) -> dict[str, str]:
    if kind == "guest":
        raise Forbidden("Guests are not admitted")
    if not settings.homeserver.registration:
        raise Forbidden("Registration is disabled")
    await limits.hit("registration_per_source", source)
    return await register_account(
        database,
        passwords,
        username=body.username,
        password=body.password,
        attempt=body.auth,
        device=None if body.inhibit_login else (body.device_id, body.initial_device_display_name),
        server_name=settings.homeserver.name,
        entropy=entropy,
        now_ms=now_ms,
    )


@router.get("/register/available")
async def is_username_available(
    username: str, session: Reading, settings: OpenSettings, limits: Limits, source: Source
) -> dict[str, bool]:
    await limits.hit("registration_per_source", source)
    await check_free(session, user_id_for(username, settings.homeserver.name))
    return {"available": True}


@router.get("/account/whoami")
async def who_am_i(user: CurrentUser) -> dict[str, Any]:
    return {"user_id": user.user_id, "device_id": user.device_id, "is_guest": False}
