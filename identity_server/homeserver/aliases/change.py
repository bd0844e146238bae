"""Giving rooms aliases, and taking them away."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.aliases import store
from identity_server.homeserver.aliases.resolve import check_alias
from identity_server.homeserver.events.event import CREATE, POWER_LEVELS
from identity_server.homeserver.events.power_levels import PowerLevels
from identity_server.homeserver.timeline import store as timeline_store
from identity_server.homeserver.timeline.build import Draft
from identity_server.homeserver.timeline.send import send_event
from identity_server.homeserver.timeline.timeline import Timeline
from identity_server.matrix.errors import Forbidden, InvalidParam, MatrixError, NotFound

CANONICAL_ALIAS = "m.room.canonical_alias"


class AliasTaken(MatrixError):
    status = 409


async def add_alias(
    session: AsyncSession, alias: str, room_id: str, user_id: str, *, server_name: str, now_ms: int
) -> None:
    """Raises ``InvalidParam``, ``AliasTaken`` and ``Forbidden``: only who is in the room gives it a name."""
    if check_alias(alias) != server_name:
        raise InvalidParam("The alias belongs to another server")
    if await timeline_store.membership(session, room_id, user_id) != "join":
        raise Forbidden("You are not in the room")
    if not await store.add_alias(session, alias, room_id, user_id, now_ms=now_ms):
        raise AliasTaken(f"Room alias {alias} already exists.")


async def remove_alias(session: AsyncSession, timeline: Timeline, alias: str, user_id: str, *, now_ms: int) -> None:
    """Raises ``InvalidParam``, ``NotFound``, and ``Forbidden`` unless it is the user's, or the user rules the room."""
    check_alias(alias)
    found = await store.find_alias(session, alias)
    if found is None:
        raise NotFound(f"Room alias {alias} not found.")
    may_say_so = await may_name(session, found.room_id, user_id)
    if found.creator != user_id and not may_say_so:
        raise Forbidden("The alias is somebody else's")
    await store.remove_alias(session, alias)
    if may_say_so:
        await _strike_out(session, timeline, found.room_id, alias, user_id, now_ms=now_ms)


async def may_name(session: AsyncSession, room_id: str, user_id: str) -> bool:
    """Whether the user may send ``m.room.canonical_alias``."""
    if await timeline_store.membership(session, room_id, user_id) != "join":
        return False
    state = await timeline_store.current_events(session, room_id, (CREATE, POWER_LEVELS))
    levels = PowerLevels(state.get(CREATE), state.get(POWER_LEVELS))
    return levels.of(user_id) >= levels.needed_for(CANONICAL_ALIAS, is_state=True)


async def _strike_out(
    session: AsyncSession, timeline: Timeline, room_id: str, alias: str, user_id: str, *, now_ms: int
) -> None:
    """The room itself no longer says that this is its name."""
    canonical = await timeline_store.state_event(session, room_id, CANONICAL_ALIAS)
    if canonical is None:
        return
    content: dict[str, Any] = dict(canonical.content)
    if content.get("alias") == alias:
        del content["alias"]
    others = content.get("alt_aliases")
    if isinstance(others, list) and alias in others:
        content["alt_aliases"] = [other for other in others if other != alias]
        if not content["alt_aliases"]:
            del content["alt_aliases"]
    if content != canonical.content:
        draft = Draft(room_id, CANONICAL_ALIAS, user_id, content, state_key="")
        await send_event(session, timeline, draft, now_ms=now_ms)
