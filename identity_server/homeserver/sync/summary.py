"""What rooms are called by who is in them (``RoomSummary`` of /sync)."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.sync import store

_HEROES = 5
_MOST_ROOMS = 10_000


@dataclass(frozen=True)
class Counts:
    joined: int
    invited: int


@dataclass
class MemberCounts:
    """How many are in a room, kept as long as its state stays: by its state group, which never changes."""

    _kept: OrderedDict[str, tuple[int | None, Counts]] = field(default_factory=OrderedDict)

    async def of(self, session: AsyncSession, groups: Mapping[str, int | None]) -> dict[str, Counts]:
        """By room; ``groups``: the state group of each now."""
        missing = [room_id for room_id, group in groups.items() if self._kept.get(room_id, (None, None))[0] != group]
        missing += [room_id for room_id in groups if room_id not in self._kept and room_id not in missing]
        found = await store.membership_counts(session, missing) if missing else {}
        counts = {
            room_id: Counts(of_room.get("join", 0), of_room.get("invite", 0)) for room_id, of_room in found.items()
        }
        answer = {room_id: counts.get(room_id) or self._kept[room_id][1] for room_id in groups}
        self._kept.update({room_id: (groups[room_id], of_room) for room_id, of_room in counts.items()})
        while len(self._kept) > _MOST_ROOMS:
            self._kept.popitem(last=False)
        return answer


async def summaries_of(
    session: AsyncSession, member_counts: MemberCounts, room_ids: Sequence[str], user_id: str
) -> dict[str, dict[str, Any]]:
    """By room; with heroes for those that have no name of their own: the members who have been there longest."""
    if not room_ids:
        return {}
    counts = await member_counts.of(session, await store.state_groups_of(session, room_ids))
    named = await store.named_rooms(session, room_ids)
    unnamed = [room_id for room_id in room_ids if room_id not in named]
    heroes = await store.first_members(session, unnamed, ("join", "invite"), user_id, _HEROES) if unnamed else {}
    if alone := [room_id for room_id in unnamed if not heroes[room_id]]:
        heroes |= await store.first_members(session, alone, ("leave", "ban"), user_id, _HEROES)
    return {
        room_id: {
            "m.joined_member_count": counts[room_id].joined,
            "m.invited_member_count": counts[room_id].invited,
            **({"m.heroes": heroes[room_id]} if room_id in heroes else {}),
        }
        for room_id in room_ids
        if room_id in counts
    }
