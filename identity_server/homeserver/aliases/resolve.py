"""From a room's name to the room (Client-Server API, "Room aliases"; Server-Server API, "Querying for information")."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.aliases import store
from identity_server.homeserver.federation.calls import FederationCalls, federation_path
from identity_server.homeserver.timeline import store as timeline
from identity_server.matrix.errors import InvalidParam, NotFound
from identity_server.matrix.http import Unreachable
from identity_server.matrix.identifiers import domain_of
from identity_server.matrix.json_api import Refused
from identity_server.runtime.database import Database

_LONGEST = 255
_MOST_SERVERS = 100


def check_alias(alias: str) -> str:
    """The server that it belongs to (Appendices, "Room Aliases"). Raises ``InvalidParam``."""
    localpart, _, _ = alias.partition(":")
    if not localpart.startswith("#") or len(localpart) < 2 or "\0" in alias or len(alias.encode()) > _LONGEST:
        raise InvalidParam("Room alias invalid")
    try:
        return domain_of(alias)
    except ValueError as error:
        raise InvalidParam("Room alias invalid") from error


async def resolve_own(session: AsyncSession, alias: str, server_name: str) -> dict[str, Any]:
    """``room_id`` and ``servers`` of an alias of ours. Raises ``NotFound``."""
    found = await store.find_alias(session, alias)
    if found is None:
        raise NotFound("Room alias not found")
    servers = await timeline.servers_in_room(session, found.room_id)
    others = sorted(servers - {server_name})
    return {"room_id": found.room_id, "servers": [server_name, *others][:_MOST_SERVERS]}


async def resolve(database: Database, calls: FederationCalls, alias: str) -> dict[str, Any]:
    """``room_id`` and ``servers`` of any alias; others' servers are asked. Raises ``NotFound``, ``InvalidParam``."""
    server = check_alias(alias)
    if server == calls.keys.server_name:
        async with database.reading() as session:
            return await resolve_own(session, alias, server)
    path = federation_path("query", "directory", query={"room_alias": alias})
    try:
        answer = await calls.get(server, path)
    except (Unreachable, Refused) as error:
        raise NotFound("Room alias not found") from error
    room_id, servers = answer.get("room_id"), answer.get("servers")
    if not isinstance(room_id, str) or not room_id.startswith("!") or "\0" in room_id:
        raise NotFound("Room alias not found")
    named = [name for name in servers if isinstance(name, str)] if isinstance(servers, list) else []
    return {"room_id": room_id, "servers": named[:_MOST_SERVERS] or [server]}
