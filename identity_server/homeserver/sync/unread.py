"""How much a user has not read (Client-Server API, "Receiving notifications" and "Marking notifications as read").

The push rules are asked for every event since the user's receipts, oldest first. What came of that is kept, and goes on
from there when more events come; a new receipt or another rule begins it anew.
"""

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.event import CREATE, POWER_LEVELS, member
from identity_server.homeserver.events.power_levels import PowerLevels
from identity_server.homeserver.push import store as push
from identity_server.homeserver.push.evaluate import Circumstances, Rules, highlights, notifies
from identity_server.homeserver.push.ruleset import ruleset
from identity_server.homeserver.receipts import store as receipts
from identity_server.homeserver.receipts.store import Given
from identity_server.homeserver.receipts.threads import MAIN, threads_of
from identity_server.homeserver.sync import store
from identity_server.homeserver.sync.store import Stretch
from identity_server.homeserver.sync.summary import MemberCounts
from identity_server.homeserver.timeline import store as timeline
from identity_server.homeserver.timeline.stored import StoredEvent

# What is further back than so many events is not counted any more.
_MOST_EVENTS = 300
_MOST_KEPT = 20_000
_MOST_USERS = 2_000


@dataclass
class Tally:
    notifications: int = 0
    highlights: int = 0

    def as_json(self) -> dict[str, int]:
        return {"notification_count": self.notifications, "highlight_count": self.highlights}


@dataclass
class _Reading:
    """How far it was counted, on what grounds, and with which result by thread."""

    grounds: Any
    upto: int
    threads: dict[str, Tally]


@dataclass(frozen=True)
class Read:
    """Up to which position the user has read: everything, and each thread."""

    all: int
    threads: Mapping[str, int]

    def upto(self, thread_id: str) -> int:
        return max(self.all, self.threads.get(thread_id, 0))


@dataclass
class Unread:
    counts: MemberCounts
    _kept: OrderedDict[tuple[str, str], _Reading] = field(default_factory=OrderedDict)
    _given: OrderedDict[str, tuple[int, dict[str, Sequence[Given]]]] = field(default_factory=OrderedDict)
    _rules: OrderedDict[str, tuple[int, Rules]] = field(default_factory=OrderedDict)
    _circumstances: OrderedDict[tuple[str, str], tuple[int | None, Circumstances]] = field(default_factory=OrderedDict)

    async def of_rooms(
        self,
        session: AsyncSession,
        user_id: str,
        joined: Mapping[str, int],
        upto: int,
        *,
        rules_position: int,
        receipts_position: int,
        ignored: frozenset[str],
        recent: Mapping[str, Sequence[StoredEvent]],
        since: int,
    ) -> dict[str, dict[str, Tally]]:
        """By room and thread, up to the position ``upto``.

        ``joined``: the rooms, and since when the user is there. ``rules_position``, ``receipts_position``: when the
        user last changed a rule, and gave a receipt. ``recent``: of some rooms all events after ``since``.
        """
        given = await self._receipts(session, user_id, joined, receipts_position)
        read = {room_id: how_far(given[room_id], position) for room_id, position in joined.items()}
        readings = {
            room_id: self._begin(user_id, room_id, read[room_id], rules_position, ignored) for room_id in joined
        }
        behind = {room_id: reading for room_id, reading in readings.items() if reading.upto < upto}
        events = await self._events(session, behind, upto, recent, since)
        for room_id, new in events.items():
            others = [stored for stored in new if stored.event.sender != user_id]
            if others or (new and behind[room_id].threads):
                rules = await self.rules_of(session, user_id, rules_position)
                where = await self.circumstances(session, user_id, room_id, new[-1].state_group)
                threads = await threads_of(session, [stored.event for stored in new])
                _count(behind[room_id], new, threads, read[room_id], user_id, rules, where, ignored)
            behind[room_id].upto = max(upto, behind[room_id].upto)
        return {room_id: reading.threads for room_id, reading in readings.items()}

    async def rules_of(self, session: AsyncSession, user_id: str, position: int) -> Rules:
        """The user's push rules, as they have been since ``position``."""
        kept = self._rules.get(user_id)
        if kept is None or kept[0] != position:
            customised = (await push.rules_of(session, user_id)).customised
            kept = self._rules[user_id] = position, Rules(ruleset(customised, user_id))
            if len(self._rules) > _MOST_USERS:
                self._rules.popitem(last=False)
        return kept[1]

    async def circumstances(
        self, session: AsyncSession, user_id: str, room_id: str, state_group: int | None
    ) -> Circumstances:
        """What the user's rules may ask of the room, whose state is that of the group."""
        kept = self._circumstances.get((user_id, room_id))
        if kept is None or kept[0] != state_group:
            own = member(user_id)
            state = await timeline.current_events(session, room_id, (CREATE, POWER_LEVELS, own))
            name = state[own].content.get("displayname") if own in state else None
            found = Circumstances(
                (await self.counts.of(session, {room_id: state_group}))[room_id].joined,
                PowerLevels(state.get(CREATE), state.get(POWER_LEVELS)),
                name if isinstance(name, str) else None,
            )
            kept = self._circumstances[user_id, room_id] = state_group, found
            if len(self._circumstances) > _MOST_KEPT:
                self._circumstances.popitem(last=False)
        return kept[1]

    async def _receipts(
        self, session: AsyncSession, user_id: str, room_ids: Collection[str], position: int
    ) -> Mapping[str, Sequence[Given]]:
        """The user's own in these rooms; read again once there is another one."""
        kept = self._given.get(user_id)
        if kept is None or kept[0] != position:
            kept = self._given[user_id] = position, {}
            if len(self._given) > _MOST_USERS:
                self._given.popitem(last=False)
        missing = [room_id for room_id in room_ids if room_id not in kept[1]]
        if missing:
            found = await receipts.given_by(session, user_id, missing) if position else {}
            kept[1].update({room_id: found.get(room_id, ()) for room_id in missing})
        return kept[1]

    def _begin(self, user_id: str, room_id: str, read: Read, rules_position: int, ignored: frozenset[str]) -> _Reading:
        grounds = (read.all, tuple(sorted(read.threads.items())), rules_position, ignored)
        kept = self._kept.get((user_id, room_id))
        if kept is None or kept.grounds != grounds:
            kept = self._kept[user_id, room_id] = _Reading(grounds, read.all, {})
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end((user_id, room_id))
        return kept

    async def _events(
        self,
        session: AsyncSession,
        behind: Mapping[str, _Reading],
        upto: int,
        recent: Mapping[str, Sequence[StoredEvent]],
        since: int,
    ) -> dict[str, list[StoredEvent]]:
        """What has not been counted yet, oldest first."""
        found: dict[str, list[StoredEvent]] = {}
        stretches = []
        for room_id, reading in behind.items():
            if room_id in recent and reading.upto >= since:
                found[room_id] = [stored for stored in recent[room_id] if (stored.position or 0) > reading.upto]
            else:
                stretches.append(Stretch(room_id, reading.upto, upto))
        if stretches:
            latest = await store.latest_events(session, stretches, _MOST_EVENTS)
            found |= {room_id: events[::-1] for room_id, events in latest.items()}
        return found


def how_far(given: Sequence[Given], joined: int) -> Read:
    """``given``: the user's receipts in a room, who has been there since ``joined``."""
    everything = joined
    threads: dict[str, int] = {}
    for receipt in given:
        if receipt.event_position is None:
            continue
        if not receipt.thread_id:
            everything = max(everything, receipt.event_position)
        else:
            threads[receipt.thread_id] = max(threads.get(receipt.thread_id, 0), receipt.event_position)
    return Read(everything, threads)


def _count(
    reading: _Reading,
    events: Sequence[StoredEvent],
    threads: Mapping[str, str],
    read: Read,
    user_id: str,
    rules: Rules,
    where: Circumstances,
    ignored: frozenset[str],
) -> None:
    # Another request of the user's may have counted some of them meanwhile.
    for stored in [stored for stored in events if (stored.position or 0) > reading.upto]:
        event, thread_id = stored.event, threads.get(stored.event_id, MAIN)
        if event.sender == user_id:
            # Who writes has read what was there.
            reading.threads.pop(thread_id, None)
        elif (stored.position or 0) > read.upto(thread_id) and event.sender not in ignored:
            actions = rules.actions_for(event, where)
            if notifies(actions):
                tally = reading.threads.setdefault(thread_id, Tally())
                tally.notifications += 1
                tally.highlights += highlights(actions)


def in_total(threads: Mapping[str, Tally]) -> Tally:
    return Tally(
        sum(tally.notifications for tally in threads.values()), sum(tally.highlights for tally in threads.values())
    )
