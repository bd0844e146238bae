"""Labels that users put on rooms (Client-Server API, "Room Tagging"): one piece of account data for each room."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.account_data import store
from identity_server.homeserver.streams import Streams
from identity_server.matrix.errors import InvalidParam

TAG = "m.tag"
_MAX_NAME_BYTES = 255


async def tags_of(session: AsyncSession, user_id: str, room_id: str) -> dict[str, Any]:
    return _tags(await store.get(session, user_id, room_id, TAG))


async def set_tag(
    session: AsyncSession, streams: Streams, user_id: str, room_id: str, tag: str, content: dict[str, Any]
) -> None:
    """Raises ``InvalidParam`` for a name or an ``order`` that cannot be."""
    if not tag or len(tag.encode()) > _MAX_NAME_BYTES:
        raise InvalidParam("The name of a tag has 1 to 255 bytes")
    order = content.get("order")
    if order is not None and (isinstance(order, bool) or not isinstance(order, int | float) or not 0 <= order <= 1):
        raise InvalidParam("order is a number from 0 to 1")

    def add(before: dict[str, Any] | None) -> dict[str, Any]:
        return {"tags": {**_tags(before), tag: content}}

    await store.update(session, streams, user_id, room_id, TAG, add)


async def remove_tag(session: AsyncSession, streams: Streams, user_id: str, room_id: str, tag: str) -> None:
    if tag not in await tags_of(session, user_id, room_id):
        return

    def remove(before: dict[str, Any] | None) -> dict[str, Any]:
        return {"tags": {name: content for name, content in _tags(before).items() if name != tag}}

    await store.update(session, streams, user_id, room_id, TAG, remove)


def _tags(content: dict[str, Any] | None) -> dict[str, Any]:
    # Clients may write m.tag as they write any account data.
    tags = (content or {}).get("tags")
    return tags if isinstance(tags, dict) else {}
