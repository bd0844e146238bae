"""Third-party identifiers of accounts, and their bindings (Client-Server API, "Administrative Contact Information")."""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from identity_server.homeserver.access.current import CurrentUser
from identity_server.homeserver.accounts import store as accounts
from identity_server.homeserver.accounts.confirm import Confirm
from identity_server.homeserver.accounts.interactive import Attempt, finish
from identity_server.homeserver.threepids import store
from identity_server.homeserver.threepids.account import add_threepid, threepids_of
from identity_server.homeserver.threepids.bind import bind
from identity_server.homeserver.threepids.unbind import (
    Binding,
    OpenUnbinder,
    Unbinder,
    forget,
    keep_trying,
    known_bindings,
    unbind_all,
)
from identity_server.homeserver.validation.own_account import OpenOwnAccount, OwnAccount
from identity_server.homeserver.validation.proven import Credentials, proven
from identity_server.homeserver.validation.request_token import (
    EmailTokenRequest,
    MsisdnTokenRequest,
    request_token,
)
from identity_server.matrix.errors import MissingParam, PassedOn, ThreepidAuthFailed, ThreepidInUse
from identity_server.matrix.identifiers import Opaque, Text
from identity_server.matrix.threepid import Threepid, canonical
from identity_server.runtime.database import Database
from identity_server.runtime.dependencies import (
    Limits,
    Now,
    OpenDatabase,
    OpenSettings,
    OpenTasks,
    Reading,
    Source,
    Transaction,
)
from identity_server.runtime.requests import Body, JsonRoute
from identity_server.runtime.tasks import Tasks
from identity_server.settings import Settings

router = APIRouter(prefix="/account/3pid", tags=["threepids"], route_class=JsonRoute)

IdServer = Annotated[Text, Field(min_length=1, max_length=300)]


class Addition(Body):
    three_pid_creds: Credentials | None = None
    three_pid_creds_as_spelt_before: Credentials | None = Field(None, alias="threePidCreds")


class ConfirmedAddition(Credentials):
    auth: Attempt | None = None


class BindRequest(Body):
    sid: Opaque
    client_secret: Opaque
    id_server: IdServer
    id_access_token: Text


class UnbindRequest(Body):
    medium: Text
    address: Text
    id_server: IdServer | None = None


@router.get("")
async def get_threepids(user: CurrentUser, session: Reading) -> dict[str, Any]:
    return {"threepids": await threepids_of(session, user.user_id)}


@router.post("", deprecated=True)
async def add(
    body: Addition, user: CurrentUser, own: OpenOwnAccount, session: Transaction, now_ms: Now
) -> dict[str, Any]:
    credentials = body.three_pid_creds or body.three_pid_creds_as_spelt_before
    if credentials is None:
        raise MissingParam("three_pid_creds is missing")
    try:
        found = await proven(own, credentials)
    except ThreepidAuthFailed as error:
        raise PassedOn(403, error.errcode, str(error)) from error
    await add_threepid(session, user.user_id, found, now_ms=now_ms)
    return {}


@router.post("/add")
async def add_confirmed(
    body: ConfirmedAddition,
    user: CurrentUser,
    confirm: Confirm,
    own: OpenOwnAccount,
    session: Transaction,
    now_ms: Now,
) -> dict[str, Any]:
    proof = await confirm.user(user.user_id, body.auth, "POST /account/3pid/add")
    found = await proven(own, body)
    await finish(session, proof)
    await add_threepid(session, user.user_id, found, now_ms=now_ms)
    return {}


@router.post("/bind")
async def bind_threepid(
    body: BindRequest, user: CurrentUser, unbinder: OpenUnbinder, session: Transaction, now_ms: Now
) -> dict[str, Any]:
    threepid = await bind(
        unbinder.http,
        unbinder.trusted,
        id_server=body.id_server,
        id_access_token=body.id_access_token,
        session=(body.sid, body.client_secret),
        user_id=user.user_id,
    )
    await store.add_identity_binding(session, user.user_id, threepid, body.id_server, now_ms=now_ms)
    return {}


@router.post("/unbind")
async def unbind_threepid(
    body: UnbindRequest,
    user: CurrentUser,
    database: OpenDatabase,
    unbinder: OpenUnbinder,
    tasks: OpenTasks,
    now_ms: Now,
) -> dict[str, Any]:
    return {"id_server_unbind_result": await _unbind(body, user.user_id, database, unbinder, tasks, now_ms)}


@router.post("/delete")
async def delete_threepid(
    body: UnbindRequest,
    user: CurrentUser,
    database: OpenDatabase,
    unbinder: OpenUnbinder,
    tasks: OpenTasks,
    now_ms: Now,
) -> dict[str, Any]:
    # Two transactions, since an identity server is asked in between: the account's part holds whatever it answers.
    async with database.transaction() as session:
        await accounts.remove_threepid(session, user.user_id, canonical(body.medium, body.address))
    return {"id_server_unbind_result": await _unbind(body, user.user_id, database, unbinder, tasks, now_ms)}


@router.post("/email/requestToken")
async def request_email_token(
    body: EmailTokenRequest,
    database: OpenDatabase,
    own: OpenOwnAccount,
    settings: OpenSettings,
    limits: Limits,
    source: Source,
) -> dict[str, Any]:
    await limits.hit("request_token_per_source", source)
    return await _request_token(body, database, own, settings)


@router.post("/msisdn/requestToken")
async def request_msisdn_token(
    body: MsisdnTokenRequest,
    database: OpenDatabase,
    own: OpenOwnAccount,
    settings: OpenSettings,
    limits: Limits,
    source: Source,
) -> dict[str, Any]:
    await limits.hit("request_token_per_source", source)
    return await _request_token(body, database, own, settings)


async def _request_token(
    body: EmailTokenRequest | MsisdnTokenRequest, database: Database, own: OwnAccount, settings: Settings
) -> dict[str, Any]:
    """Raises ``ThreepidInUse``."""
    own.trusted.url(body.id_server)
    async with database.reading() as session:
        if await accounts.owner_of(session, body.threepid) is not None:
            raise ThreepidInUse("The address belongs to an account already")
    return await request_token(own, body, base_url=settings.homeserver_base_url)


async def _unbind(
    body: UnbindRequest, user_id: str, database: Database, unbinder: Unbinder, tasks: Tasks, now_ms: int
) -> str:
    threepid: Threepid = canonical(body.medium, body.address)
    if body.id_server is not None:
        bindings = [Binding(threepid, body.id_server)]
    else:
        async with database.reading() as session:
            bindings = await known_bindings(session, user_id, unbinder.trusted, only=threepid)
        # "If the homeserver does not know the original `id_server`" it says so.
        bindings = bindings or [Binding(threepid, None)]
    result, done, unreached = await unbind_all(unbinder, bindings, user_id)
    async with database.transaction() as session:
        await forget(session, user_id, done)
        await keep_trying(session, tasks, unreached, user_id, now_ms=now_ms)
    return result
