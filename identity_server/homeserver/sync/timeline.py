"""The last events of a room that the client has not seen, as many as it wants (Client-Server API, "Syncing")."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.sync import store
from identity_server.homeserver.sync.store import Stretch
from identity_server.homeserver.timeline.event_filter import EventFilter
from identity_server.homeserver.timeline.history import last_gaps
from identity_server.homeserver.timeline.state import StateGroups
from identity_server.homeserver.timeline.stored import StoredEvent
from identity_server.homeserver.timeline.visibility import visible_by_room

# So many events that are not to be shown are passed over before the rest is left to GET /messages.
_MOST_READ = 2_000
_AT_ONCE = 100
_NEVER = 2**63


@dataclass(frozen=True)
class Section:
    """Of a room's history what is shown: ``events``, oldest first, of the positions after ``start``.

    ``limited``: before ``start`` there is more that the client has not seen.
    """

    events: tuple[StoredEvent, ...]
    start: int
    limited: bool

    def cut(self, count: int) -> "Section":
        """Without the first ``count`` events."""
        if not count:
            return self
        return replace(self, events=self.events[count:], start=_position(self.events[count - 1]), limited=True)

    def begin(self, position: int) -> "Section":
        """Without what is before the position, where there is a gap."""
        if position <= max(self.start, 0):
            return self
        events = tuple(stored for stored in self.events if _position(stored) >= position)
        return Section(events, position - 1, limited=True)


async def without_gaps(session: AsyncSession, sections: Mapping[str, Section], upto: int) -> dict[str, Section]:
    """Each from its last gap on: what is missing there is for GET /messages, and what is before it too."""
    gaps = await last_gaps(session, sections.keys(), upto)
    return {room_id: section.begin(gaps.get(room_id, 0)) for room_id, section in sections.items()}


@dataclass(frozen=True)
class Reader:
    """Who reads which rooms' ends. ``ignored``: users of whom only state is shown."""

    groups: StateGroups
    user_id: str
    wanted: EventFilter
    limit: int
    ignored: frozenset[str]

    async def read(
        self, session: AsyncSession, stretches: Sequence[Stretch], joined: Mapping[str, int]
    ) -> dict[str, Section]:
        """By room; ``joined``: since which position the user has been there, where that is so without a break."""
        rooms = [stretch for stretch in stretches if self.wanted.admits_room(stretch.room_id)]
        found = await store.latest_events(session, rooms, self.limit + 1, self.wanted.conditions()) if rooms else {}
        shown = await self._shown(session, found, joined)
        sections = {}
        for stretch in stretches:
            events = found.get(stretch.room_id, [])
            of_room = shown.get(stretch.room_id, [])
            more = len(events) > self.limit
            if more and len(of_room) <= self.limit:
                more = await self._read_on(session, stretch, events, of_room, joined)
            sections[stretch.room_id] = self._section(stretch, of_room, more=more)
        return sections

    async def take(
        self, session: AsyncSession, events: Mapping[Stretch, Sequence[StoredEvent]], joined: Mapping[str, int]
    ) -> dict[str, Section]:
        """As ``read``, of stretches whose events are all known, oldest first."""
        found = {
            stretch.room_id: [*reversed(of_room)]
            for stretch, of_room in events.items()
            if self.wanted.admits_room(stretch.room_id)
        }
        shown = await self._shown(session, found, joined)
        return {
            stretch.room_id: self._section(stretch, shown.get(stretch.room_id, []), more=False) for stretch in events
        }

    async def _read_on(
        self,
        session: AsyncSession,
        stretch: Stretch,
        events: Sequence[StoredEvent],
        shown: list[StoredEvent],
        joined: Mapping[str, int],
    ) -> bool:
        """Add to ``shown`` what is before ``events``, until it is enough; whether there is still more."""
        read, more = len(events), True
        while more and len(shown) <= self.limit and read < _MOST_READ:
            before = replace(stretch, upto=_position(events[-1]) - 1)
            found = await store.latest_events(session, [before], _AT_ONCE, self.wanted.conditions())
            events = found[stretch.room_id]
            shown += (await self._shown(session, found, joined))[stretch.room_id]
            read += len(events)
            more = len(events) == _AT_ONCE
        return more

    def _section(self, stretch: Stretch, events: Sequence[StoredEvent], *, more: bool) -> Section:
        """``events``: the latest first. ``more``: whether there are others before them."""
        limited = more or len(events) > self.limit
        shown = events[: self.limit][::-1]
        if shown:
            start = _position(shown[0]) - 1
        else:
            start = stretch.upto if limited or stretch.after is None else stretch.after
        return Section(tuple(shown), start, limited)

    async def _shown(
        self, session: AsyncSession, events: Mapping[str, Sequence[StoredEvent]], joined: Mapping[str, int]
    ) -> dict[str, list[StoredEvent]]:
        wanted = {
            room_id: [
                stored
                for stored in of_room
                if self.wanted.admits(stored.event)
                and (stored.event.is_state or stored.event.sender not in self.ignored)
            ]
            for room_id, of_room in events.items()
        }
        # Since the user joined everything is to be seen. Whether what was before is, has to be looked up.
        doubtful = {
            room_id: [stored for stored in of_room if _position(stored) < joined.get(room_id, _NEVER)]
            for room_id, of_room in wanted.items()
        }
        if not any(doubtful.values()):
            return wanted
        visible = await visible_by_room(session, self.groups, doubtful, self.user_id)
        seen = {stored.event_id: stored for of_room in visible.values() for stored in of_room}
        hidden = {stored.event_id for of_room in doubtful.values() for stored in of_room if stored.event_id not in seen}
        if hidden:
            # Who is in the room is told its state in any case. Where that is recent, clients look for it here.
            rooms = doubtful.keys() & joined.keys()
            states = (stored for room_id in rooms for stored in doubtful[room_id] if stored.event.is_state)
            told = hidden.intersection(stored.event_id for stored in states)
            hidden -= await store.current_among(session, rooms, told)
        own = ("m.room.member", self.user_id)
        return {
            room_id: [
                seen.get(stored.event_id, stored)
                for stored in of_room
                if stored.event_id not in hidden or (stored.event.type, stored.event.state_key) == own
            ]
            for room_id, of_room in wanted.items()
        }


def _position(stored: StoredEvent) -> int:
    return stored.position or 0
