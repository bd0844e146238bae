"""Our published rooms, for whoever looks around (Client-Server API, "Published room directory")."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.aliases import store as aliases
from identity_server.homeserver.rooms.summaries import Summary, published, summaries
from identity_server.matrix.errors import InvalidParam

_MOST = 500
_USUAL = 100


@dataclass(frozen=True)
class Search:
    """``since``: a token of an earlier answer. ``room_types``: None for rooms without a type; no tuple: any."""

    limit: int | None = None
    since: str | None = None
    term: str | None = None
    room_types: tuple[str | None, ...] | None = None


async def find_published(session: AsyncSession, search: Search) -> dict[str, Any]:
    """The answer of /publicRooms: the largest rooms first. Raises ``InvalidParam``."""
    rooms = await summaries(session, await aliases.published_rooms(session))
    wanted = [published(room) for room in rooms.values() if _matches(room, search)]
    wanted.sort(key=lambda room: (-room["num_joined_members"], room["room_id"]))
    start = _offset(search.since)
    limit = max(0, min(_USUAL if search.limit is None else search.limit, _MOST)) or _USUAL
    answer: dict[str, Any] = {
        "chunk": wanted[start : start + limit],
        "total_room_count_estimate": len(wanted),
    }
    if start + limit < len(wanted):
        answer["next_batch"] = f"p{start + limit}"
    if start > 0:
        answer["prev_batch"] = f"p{max(start - limit, 0)}"
    return answer


def _offset(since: str | None) -> int:
    if not since:
        return 0
    if not since.startswith("p") or not since[1:].isdecimal() or len(since) > 12:
        raise InvalidParam("since is no token of this directory")
    return int(since[1:])


def _matches(room: Summary, search: Search) -> bool:
    if search.room_types is not None and room.get("room_type") not in search.room_types:
        return False
    if not search.term:
        return True
    sought = search.term.casefold()
    return any(sought in str(room.get(name, "")).casefold() for name in ("name", "topic", "canonical_alias", "room_id"))
