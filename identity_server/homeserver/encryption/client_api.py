"""Keys and messages to devices (Client-Server API, "End-to-End Encryption", "Send-to-Device messaging")."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import Field

from identity_server.homeserver.access.current import CurrentUser
from identity_server.homeserver.accounts.confirm import Confirm
from identity_server.homeserver.accounts.interactive import attempt_in, finish
from identity_server.homeserver.encryption import cross_signing, for_sync, store
from identity_server.homeserver.encryption.backups import client_api as backups
from identity_server.homeserver.encryption.device_keys import upload_device_keys
from identity_server.homeserver.encryption.one_time_keys.claim import Claimed, claim_local
from identity_server.homeserver.encryption.one_time_keys.store import Wanted
from identity_server.homeserver.encryption.one_time_keys.upload import upload_fallback_keys, upload_one_time_keys
from identity_server.homeserver.encryption.query import Answer, query_local
from identity_server.homeserver.encryption.remote_keys import RemoteKeysOfUsers
from identity_server.homeserver.encryption.signatures import upload_signatures
from identity_server.homeserver.encryption.to_device.send import send_to_devices
from identity_server.homeserver.federation.calls import OpenFederation
from identity_server.homeserver.streams import OpenStreams, current_position
from identity_server.homeserver.timeline import store as timeline
from identity_server.matrix.errors import BadJson, InvalidParam
from identity_server.matrix.identifiers import Text, UserID, domain_of
from identity_server.runtime.dependencies import Now, OpenDatabase, OpenSettings, Random, Reading, Transaction
from identity_server.runtime.errors import json_response
from identity_server.runtime.requests import Body, JsonRoute
from identity_server.runtime.routing import include

keys_router = APIRouter(prefix="/keys", tags=["encryption"], route_class=JsonRoute)
"""Also served under ``/unstable``, where clients and tests of old look for it."""
router = APIRouter(tags=["encryption"], route_class=JsonRoute)

# "10 seconds is the recommended default."
_TIMEOUT_MS = 10_000
_LONGEST_TIMEOUT_MS = 60_000

Name = Annotated[Text, Field(min_length=1, max_length=255)]
Timeout = Annotated[int, Field(ge=0)]


class Upload(Body):
    device_keys: dict[str, Any] | None = None
    one_time_keys: dict[str, Any] | None = None
    fallback_keys: dict[str, Any] | None = None


class KeyQuery(Body):
    device_keys: dict[UserID, list[str] | dict[str, Any]]
    timeout: Timeout = _TIMEOUT_MS

    @property
    def asked(self) -> dict[str, set[str]]:
        """Device IDs by user ID. Raises ``BadJson``."""
        # Old clients ask for all devices of a user by an empty object; in one with entries they mean something else.
        if any(devices for devices in self.device_keys.values() if isinstance(devices, dict)):
            raise BadJson("The devices of a user are asked for in a list")
        return {user_id: set(devices) for user_id, devices in self.device_keys.items()}


class Claim(Body):
    one_time_keys: dict[UserID, dict[Text, Text]]
    timeout: Timeout = _TIMEOUT_MS


class Messages(Body):
    messages: dict[UserID, dict[Name, dict[str, Any]]]


@keys_router.post("/upload")
async def upload_keys(body: Upload, user: CurrentUser, session: Transaction, streams: OpenStreams) -> dict[str, Any]:
    await upload_one_time_keys(session, user, body.one_time_keys or {})
    await upload_fallback_keys(session, user, body.fallback_keys or {})
    counts, _ = await for_sync.key_counts(session, user.user_id, user.device_id)
    if body.device_keys is not None:
        await upload_device_keys(session, streams, user, body.device_keys)
    return {"one_time_key_counts": counts}


# The next two ask other servers, for which no transaction waits.


@keys_router.post("/query")
async def query_keys(
    body: KeyQuery, user: CurrentUser, database: OpenDatabase, settings: OpenSettings, federation: OpenFederation
) -> Response:
    asked = body.asked
    local = {user_id: asked[user_id] for user_id in asked if domain_of(user_id) == settings.homeserver.name}
    remote = {user_id: asked[user_id] for user_id in asked if user_id not in local}
    answer = Answer()
    async with database.reading() as session:
        await query_local(session, local, answer, viewer=user.user_id)
    others = _others(database, federation, settings.homeserver.name, body.timeout)
    failures = await others.query(remote, answer, viewer=user.user_id) if remote else {}
    return json_response({**vars(answer), "failures": failures})


@keys_router.post("/claim")
async def claim_keys(
    body: Claim, _user: CurrentUser, database: OpenDatabase, settings: OpenSettings, federation: OpenFederation
) -> Response:
    wanted = [
        Wanted(user_id, device_id, algorithm)
        for user_id, devices in body.one_time_keys.items()
        for device_id, algorithm in devices.items()
    ]
    local = [each for each in wanted if domain_of(each.user_id) == settings.homeserver.name]
    claimed: Claimed = {}
    if local:
        async with database.transaction() as session:
            claimed = await claim_local(session, local)
    others = _others(database, federation, settings.homeserver.name, body.timeout)
    failures = await others.claim([each for each in wanted if each not in set(local)], claimed)
    return json_response({"one_time_keys": claimed, "failures": failures})


@keys_router.get("/changes")
async def get_changes(
    since: Annotated[str, Query(alias="from")], to: str, user: CurrentUser, session: Reading
) -> dict[str, list[str]]:
    begin = _position(since)
    _position(to)  # "may be used by the server as a hint": what came later is told, too
    changed, left = await for_sync.device_list_changes(
        session,
        user.user_id,
        begin,
        await current_position(session),
        joined_rooms=await timeline.joined_rooms(session, user.user_id),
    )
    return {"changed": sorted(changed), "left": sorted(left)}


@keys_router.post("/device_signing/upload")
async def upload_cross_signing_keys(
    body: dict[str, Any], user: CurrentUser, confirm: Confirm, session: Transaction, streams: OpenStreams
) -> dict[str, Any]:
    keys = cross_signing.read_keys(body, user.user_id)
    attempt = attempt_in(body)
    async with confirm.database.reading() as reading:
        known = (await store.cross_signing_keys(reading, [user.user_id])).get(user.user_id, {})
    cross_signing.check_signatures(keys, known, user.user_id)
    confirmed = cross_signing.needs_confirmation(keys, known)
    if confirmed:
        proof = await confirm.user(user.user_id, attempt, "POST /keys/device_signing/upload")
        await finish(session, proof)
    await cross_signing.upload_cross_signing_keys(session, streams, user.user_id, keys, confirmed=confirmed)
    return {}


@keys_router.post("/signatures/upload")
async def post_signatures(
    body: dict[str, Any], user: CurrentUser, session: Transaction, streams: OpenStreams
) -> dict[str, Any]:
    return {"failures": await upload_signatures(session, streams, user.user_id, body)}


@router.put("/sendToDevice/{event_type}/{txn_id:path}")
async def send_to_device(
    event_type: Name,
    txn_id: Name,
    body: Messages,
    user: CurrentUser,
    session: Transaction,
    streams: OpenStreams,
    settings: OpenSettings,
    entropy: Random,
    now_ms: Now,
) -> dict[str, Any]:
    await send_to_devices(
        session,
        streams,
        user,
        event_type,
        txn_id,
        body.messages,
        server_name=settings.homeserver.name,
        entropy=entropy,
        now_ms=now_ms,
    )
    return {}


include(router, keys_router, backups.router)


def _others(database: OpenDatabase, federation: OpenFederation, server_name: str, timeout_ms: int) -> RemoteKeysOfUsers:
    return RemoteKeysOfUsers(database, federation, server_name, min(timeout_ms, _LONGEST_TIMEOUT_MS))


def _position(token: str) -> int:
    """Where in the stream a token of /sync stands."""
    position = token.removeprefix("s").partition("_")[0]
    if not token.startswith("s") or not (position.isascii() and position.isdecimal() and len(position) < 19):
        raise InvalidParam("This is no token of /sync")
    return int(position)
