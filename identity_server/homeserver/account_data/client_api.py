"""What users keep for themselves (Client-Server API, "Client Config" and "Room Tagging")."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path

from identity_server.homeserver.access.current import CurrentUser
from identity_server.homeserver.account_data import store
from identity_server.homeserver.account_data.computed import OpenComputed
from identity_server.homeserver.account_data.tags import remove_tag, set_tag, tags_of
from identity_server.homeserver.streams import OpenStreams
from identity_server.matrix.errors import Forbidden, ManagedByServer, NotFound
from identity_server.matrix.identifiers import RoomID, Text
from identity_server.runtime.dependencies import Reading, Transaction
from identity_server.runtime.requests import JsonRoute

_MANAGED = frozenset({"m.fully_read", "m.push_rules"})


async def _own(user_id: str, user: CurrentUser) -> str:
    if user_id != user.user_id:
        raise Forbidden("One's own account data only")
    return user_id


OwnUserID = Annotated[str, Depends(_own)]
Room = Annotated[RoomID, Path(alias="room_id")]
Type = Annotated[Text, Path(alias="type", max_length=255)]

router = APIRouter(prefix="/user/{user_id}", tags=["account data"], route_class=JsonRoute)


@router.get("/account_data/{type}")
async def get_account_data(own_id: OwnUserID, type_: Type, session: Reading, computed: OpenComputed) -> dict[str, Any]:
    if type_ in computed:
        return await computed[type_](session, own_id)
    return _found(await store.get(session, own_id, store.GLOBAL, type_))


@router.put("/account_data/{type}")
async def put_account_data(
    own_id: OwnUserID, type_: Type, body: dict[str, Any], session: Transaction, streams: OpenStreams
) -> dict[str, Any]:
    _check_free(type_)
    await store.put(session, streams, own_id, store.GLOBAL, type_, body)
    return {}


@router.get("/rooms/{room_id}/account_data/{type}")
async def get_room_account_data(own_id: OwnUserID, room_id: Room, type_: Type, session: Reading) -> dict[str, Any]:
    return _found(await store.get(session, own_id, room_id, type_))


@router.put("/rooms/{room_id}/account_data/{type}")
async def put_room_account_data(
    own_id: OwnUserID, room_id: Room, type_: Type, body: dict[str, Any], session: Transaction, streams: OpenStreams
) -> dict[str, Any]:
    _check_free(type_)
    await store.put(session, streams, own_id, room_id, type_, body)
    return {}


@router.get("/rooms/{room_id}/tags")
async def get_tags(own_id: OwnUserID, room_id: Room, session: Reading) -> dict[str, Any]:
    return {"tags": await tags_of(session, own_id, room_id)}


@router.put("/rooms/{room_id}/tags/{tag}")
async def put_tag(
    own_id: OwnUserID, room_id: Room, tag: Text, body: dict[str, Any], session: Transaction, streams: OpenStreams
) -> dict[str, Any]:
    await set_tag(session, streams, own_id, room_id, tag, body)
    return {}


@router.delete("/rooms/{room_id}/tags/{tag}")
async def delete_tag(
    own_id: OwnUserID, room_id: Room, tag: Text, session: Transaction, streams: OpenStreams
) -> dict[str, Any]:
    await remove_tag(session, streams, own_id, room_id, tag)
    return {}


def _check_free(type_: str) -> None:
    if type_ in _MANAGED:
        raise ManagedByServer(f"Cannot set {type_} through this API")


def _found(content: dict[str, Any] | None) -> dict[str, Any]:
    if content is None:
        raise NotFound("Account data not found")
    return content
