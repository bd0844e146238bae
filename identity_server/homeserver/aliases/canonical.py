"""What a room may say its names are (Client-Server API, "m.room.canonical_alias")."""

from collections.abc import Mapping
from typing import Any

from identity_server.homeserver.aliases.change import CANONICAL_ALIAS
from identity_server.homeserver.aliases.resolve import check_alias, resolve
from identity_server.homeserver.federation.calls import FederationCalls
from identity_server.homeserver.timeline import store
from identity_server.matrix.errors import InvalidParam, MatrixError, NotFound
from identity_server.runtime.database import Database


class BadAlias(MatrixError):
    errcode = "M_BAD_ALIAS"


async def check_canonical_alias(
    database: Database, calls: FederationCalls, room_id: str, content: Mapping[str, Any]
) -> None:
    """Every alias that is new in ``content`` has to lead to the room; others' servers are asked where they do.

    Raises ``BadAlias``, and ``InvalidParam`` for what is no alias.
    """
    async with database.reading() as session:
        present = await store.state_event(session, room_id, CANONICAL_ALIAS)
    said = set(_named(present.content, strict=False)) if present else set[str]()
    for alias in dict.fromkeys(_named(content, strict=True)):
        if alias in said:
            continue
        check_alias(alias)
        try:
            found = await resolve(database, calls, alias)
        except NotFound as error:
            raise BadAlias(f"Room alias {alias} does not exist") from error
        if found["room_id"] != room_id:
            raise BadAlias(f"Room alias {alias} leads to another room")


def _named(content: Mapping[str, Any], *, strict: bool) -> list[str]:
    alias, others = content.get("alias"), content.get("alt_aliases")
    if strict and not (alias is None or isinstance(alias, str)):
        raise InvalidParam("alias is no string")
    if strict and not (others is None or isinstance(others, list)):
        raise InvalidParam("alt_aliases is no list")
    named = [alias or None, *(others if isinstance(others, list) else ())]
    if strict and not all(isinstance(name, str) for name in named[1:]):
        raise InvalidParam("alt_aliases is a list of aliases")
    return [name for name in named if isinstance(name, str)]
