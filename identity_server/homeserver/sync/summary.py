"""What a room is called by who is in it (``RoomSummary`` of /sync)."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.sync import store
from identity_server.homeserver.timeline import store as timeline

_HEROES = 5
_NAMES = (("m.room.name", "", "name"), ("m.room.canonical_alias", "", "alias"))
_MOST_ROOMS = 5_000


@dataclass(frozen=True)
class Counts:
    joined: int
    invited: int


@dataclass
class MemberCounts:
    """How many are in a room, kept as long as its state stays: by its state group, which never changes."""

    _kept: OrderedDict[str, tuple[int | None, Counts]] = field(default_factory=OrderedDict)

    async def of(self, session: AsyncSession, room_id: str, state_group: int | None) -> Counts:
        kept = self._kept.get(room_id)
        if kept is not None and kept[0] == state_group:
            return kept[1]
        found = await store.membership_counts(session, room_id)
        counts = Counts(found.get("join", 0), found.get("invite", 0))
        self._kept[room_id] = state_group, counts
        if len(self._kept) > _MOST_ROOMS:
            self._kept.popitem(last=False)
        return counts


async def summary_of(session: AsyncSession, room_id: str, counts: Counts, user_id: str) -> dict[str, Any]:
    """With heroes for a room that has no name of its own; the members who have been there longest."""
    summary: dict[str, Any] = {
        "m.joined_member_count": counts.joined,
        "m.invited_member_count": counts.invited,
    }
    if not await _is_named(session, room_id):
        heroes = await store.first_members(session, room_id, ("join", "invite"), user_id, _HEROES)
        if not heroes:
            heroes = await store.first_members(session, room_id, ("leave", "ban"), user_id, _HEROES)
        summary["m.heroes"] = heroes
    return summary


async def _is_named(session: AsyncSession, room_id: str) -> bool:
    keys = [(type_, key) for type_, key, _ in _NAMES]
    state = await timeline.current_events(session, room_id, keys)
    return any(key in state and state[key].content.get(name) for *key_, name in _NAMES for key in [tuple(key_)])
