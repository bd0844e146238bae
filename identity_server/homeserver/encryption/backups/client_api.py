"""Server-side key backups (Client-Server API, "Server-side key backups")."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from orjson import Fragment
from pydantic import Field

from identity_server.homeserver.access.current import CurrentUser
from identity_server.homeserver.encryption.backups import backup
from identity_server.homeserver.encryption.backups.replace import Standing
from identity_server.homeserver.encryption.backups.store import StoredSession
from identity_server.homeserver.encryption.key_json import opaque
from identity_server.matrix.canonical_json import LARGEST_INTEGER
from identity_server.matrix.errors import NotFound
from identity_server.matrix.identifiers import Text
from identity_server.runtime.dependencies import Reading, Transaction
from identity_server.runtime.errors import json_response
from identity_server.runtime.requests import Body, JsonRoute

router = APIRouter(prefix="/room_keys", tags=["encryption"], route_class=JsonRoute)

Count = Annotated[int, Field(ge=0, le=LARGEST_INTEGER)]
Name = Annotated[Text, Field(min_length=1, max_length=255)]
# "Algorithm-dependent data": an object for the algorithm that there is.
Opaque = dict[str, Any] | str
Version = Annotated[str, Query()]


class Backup(Body):
    algorithm: Name
    auth_data: Opaque
    version: str | None = None


class KeyData(Body):
    first_message_index: Count
    forwarded_count: Count
    is_verified: bool
    session_data: Opaque


class RoomKeys(Body):
    sessions: dict[Name, KeyData]


class Keys(Body):
    rooms: dict[Name, RoomKeys]


@router.post("/version")
async def create_backup(body: Backup, user: CurrentUser, session: Transaction) -> dict[str, str]:
    version = await backup.create(session, user.user_id, body.algorithm, opaque(body.auth_data))
    return {"version": version}


@router.get("/version")
async def get_current_backup(user: CurrentUser, session: Reading) -> Response:
    return json_response(await backup.describe(session, user.user_id, None))


@router.get("/version/{version}")
async def get_backup(version: str, user: CurrentUser, session: Reading) -> Response:
    return json_response(await backup.describe(session, user.user_id, version))


@router.put("/version/{version}")
async def put_backup(version: str, body: Backup, user: CurrentUser, session: Transaction) -> dict[str, Any]:
    await backup.change(
        session,
        user.user_id,
        version,
        named_version=body.version,
        algorithm=body.algorithm,
        auth_data=opaque(body.auth_data),
    )
    return {}


@router.delete("/version/{version}")
async def delete_backup(version: str, user: CurrentUser, session: Transaction) -> dict[str, Any]:
    await backup.remove(session, user.user_id, version)
    return {}


# Keys: of all rooms, of a room, and one. A session ID is base64, and may hold slashes.


@router.put("/keys")
async def put_keys(body: Keys, version: Version, user: CurrentUser, session: Transaction) -> dict[str, Any]:
    keys = [
        _stored(room_id, session_id, key)
        for room_id, room in body.rooms.items()
        for session_id, key in room.sessions.items()
    ]
    return await backup.put_keys(session, user.user_id, version, keys)


@router.put("/keys/{room_id}")
async def put_keys_of_room(
    room_id: Name, body: RoomKeys, version: Version, user: CurrentUser, session: Transaction
) -> dict[str, Any]:
    keys = [_stored(room_id, session_id, key) for session_id, key in body.sessions.items()]
    return await backup.put_keys(session, user.user_id, version, keys)


@router.put("/keys/{room_id}/{session_id:path}")
async def put_key(
    room_id: Name, session_id: Name, body: KeyData, version: Version, user: CurrentUser, session: Transaction
) -> dict[str, Any]:
    return await backup.put_keys(session, user.user_id, version, [_stored(room_id, session_id, body)])


@router.get("/keys")
async def get_keys(version: Version, user: CurrentUser, session: Reading) -> Response:
    rooms: dict[str, dict[str, dict[str, Any]]] = {}
    for key in await backup.get_keys(session, user.user_id, version):
        rooms.setdefault(key.room_id, {"sessions": {}})["sessions"][key.session_id] = _shown(key)
    return json_response({"rooms": rooms})


@router.get("/keys/{room_id}")
async def get_keys_of_room(room_id: Name, version: Version, user: CurrentUser, session: Reading) -> Response:
    keys = await backup.get_keys(session, user.user_id, version, room_id)
    return json_response({"sessions": {key.session_id: _shown(key) for key in keys}})


@router.get("/keys/{room_id}/{session_id:path}")
async def get_key(room_id: Name, session_id: Name, version: Version, user: CurrentUser, session: Reading) -> Response:
    keys = await backup.get_keys(session, user.user_id, version, room_id, session_id)
    if not keys:
        raise NotFound("Key not found.")
    return json_response(_shown(keys[0]))


@router.delete("/keys")
async def delete_keys(version: Version, user: CurrentUser, session: Transaction) -> dict[str, Any]:
    return await backup.remove_keys(session, user.user_id, version)


@router.delete("/keys/{room_id}")
async def delete_keys_of_room(
    room_id: Name, version: Version, user: CurrentUser, session: Transaction
) -> dict[str, Any]:
    return await backup.remove_keys(session, user.user_id, version, room_id)


@router.delete("/keys/{room_id}/{session_id:path}")
async def delete_key(
    room_id: Name, session_id: Name, version: Version, user: CurrentUser, session: Transaction
) -> dict[str, Any]:
    return await backup.remove_keys(session, user.user_id, version, room_id, session_id)


def _stored(room_id: str, session_id: str, key: KeyData) -> StoredSession:
    standing = Standing(key.is_verified, key.first_message_index, key.forwarded_count)
    return StoredSession(room_id, session_id, standing, opaque(key.session_data))


def _shown(key: StoredSession) -> dict[str, Any]:
    return {**key.standing._asdict(), "session_data": Fragment(key.session_data)}
