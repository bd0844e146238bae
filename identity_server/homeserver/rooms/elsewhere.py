"""What rooms others publish (Server-Server API, "Published room directory")."""

from typing import Any

from identity_server.homeserver.federation.calls import FederationCalls, federation_path
from identity_server.homeserver.rooms.directory import Search
from identity_server.matrix.errors import BadGateway, PassedOn
from identity_server.matrix.http import Unreachable
from identity_server.matrix.json_api import Refused


async def published_elsewhere(calls: FederationCalls, server_name: str, search: Search) -> dict[str, Any]:
    """The answer of /publicRooms of another server. Raises ``PassedOn`` and ``BadGateway``."""
    asked: dict[str, Any] = {"limit": search.limit, "since": search.since}
    asked = {name: value for name, value in asked.items() if value is not None}
    try:
        if search.term is None and search.room_types is None:
            return await calls.get(server_name, federation_path("publicRooms", query=asked))
        wanted: dict[str, Any] = {"generic_search_term": search.term}
        if search.room_types is not None:
            wanted["room_types"] = list(search.room_types)
        content = {**asked, "filter": {name: value for name, value in wanted.items() if value is not None}}
        return await calls.post(server_name, federation_path("publicRooms"), content)
    except Refused as error:
        raise PassedOn(error.status, error.errcode, error.message) from error
    except Unreachable as error:
        raise BadGateway("The server cannot be reached") from error
