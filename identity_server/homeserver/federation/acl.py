"""Which servers a room keeps out (Server-Server API, "Server Access Control Lists (ACLs)")."""

import re
from functools import lru_cache
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.event import Event
from identity_server.homeserver.events.versions import RoomVersion, room_version
from identity_server.homeserver.timeline import store
from identity_server.matrix.errors import Forbidden, NotFound
from identity_server.matrix.identifiers import split_server_name

_ACL = "m.room.server_acl"
_LONGEST_GLOB = 255
_MOST_GLOBS = 10_000


async def version_of_our_room(session: AsyncSession, room_id: str, origin: str, server_name: str) -> RoomVersion:
    """Of a room that ``server_name``, who we are, is in. Raises ``NotFound``, and ``Forbidden`` by the room's ACL."""
    room = await store.find_room(session, room_id)
    if room is None or not await store.is_server_in_room(session, room_id, server_name):
        raise NotFound("Unknown room")
    await check_acl(session, room_id, origin)
    return room_version(room.version)


async def check_acl(session: AsyncSession, room_id: str, server_name: str) -> None:
    """Raises ``Forbidden`` if the room's current state denies ``server_name``."""
    if not permits(await store.state_event(session, room_id, _ACL), server_name):
        raise Forbidden("Your server is banned from the room by its access control list")


def permits(acl: Event | None, server_name: str) -> bool:
    """The steps are numbered in the description of ``m.room.server_acl``."""
    if acl is None:
        return True  # 1
    named = split_server_name(server_name)
    if named.is_ip and acl.content.get("allow_ip_literals") is False:
        return False  # 2
    host = named.host.lower()
    if any(_matches(glob, host) for glob in _globs(acl.content.get("deny"))):
        return False  # 3
    return any(_matches(glob, host) for glob in _globs(acl.content.get("allow")))  # 4, 5


def _globs(listed: Any) -> list[str]:
    if not isinstance(listed, list):
        return []
    return [glob for glob in listed[:_MOST_GLOBS] if isinstance(glob, str) and len(glob) <= _LONGEST_GLOB]


def _matches(glob: str, host: str) -> bool:
    if "*" not in glob and "?" not in glob:
        return glob.lower() == host
    return _pattern(glob).fullmatch(host) is not None


@lru_cache(maxsize=10_000)
def _pattern(glob: str) -> re.Pattern[str]:
    """Appendices, "Glob-style matching". Many stars would take for ever: stars in a row are one, and none give back."""
    parts = [re.escape(part).replace(r"\?", ".") for part in re.split(r"\*+", glob.lower())]
    # Each piece between stars is found where it comes first, which is enough; only the last has to meet the end.
    *middle, last = parts
    pattern = middle[0] if middle else ""
    for part in middle[1:]:
        pattern += f"(?>.*?{part})"
    return re.compile(f"{pattern}.*{last}" if middle else last, re.DOTALL)
