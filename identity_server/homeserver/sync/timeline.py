"""The last events of a room that the client has not seen, as many as it wants (Client-Server API, "Syncing")."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.sync import store
from identity_server.homeserver.sync.store import Stretch
from identity_server.homeserver.timeline.event_filter import EventFilter
from identity_server.homeserver.timeline.state import StateGroups
from identity_server.homeserver.timeline.stored import StoredEvent
from identity_server.homeserver.timeline.visibility import visible_events

# So many events that are not to be shown are passed over before the rest is left to GET /messages.
_MOST_READ = 2_000
_AT_ONCE = 100


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


@dataclass(frozen=True)
class Reader:
    """Who reads which rooms' ends. ``ignored``: users of whom only state is shown."""

    groups: StateGroups
    user_id: str
    wanted: EventFilter
    limit: int
    ignored: frozenset[str]

    async def read(
        self, session: AsyncSession, stretches: Sequence[Stretch], joined: Collection[tuple[str, int]] = ()
    ) -> dict[str, Section]:
        """By room; ``joined``: pairs of a room ID and the position since which the user has been there."""
        rooms = [stretch for stretch in stretches if self.wanted.admits_room(stretch.room_id)]
        count = self.limit + 1
        found = await store.latest_events(session, rooms, count, self.wanted.conditions()) if rooms else {}
        since = dict(joined)
        sections = {}
        for stretch in stretches:
            events = found.get(stretch.room_id, [])
            sections[stretch.room_id] = await self._section(
                session, stretch, events, since.get(stretch.room_id), more=len(events) == count
            )
        return sections

    async def take(
        self, session: AsyncSession, stretch: Stretch, events: Sequence[StoredEvent], joined: int | None
    ) -> Section:
        """As ``read``, of a stretch whose ``events`` are all known, oldest first."""
        wanted = [*reversed(events)] if self.wanted.admits_room(stretch.room_id) else []
        return await self._section(session, stretch, wanted, joined, more=False)

    async def _section(
        self,
        session: AsyncSession,
        stretch: Stretch,
        events: Sequence[StoredEvent],
        joined: int | None,
        *,
        more: bool,
    ) -> Section:
        """``events``: the latest first. ``more``: whether there are others before them."""
        shown: list[StoredEvent] = []
        read = len(events)
        while True:
            shown += await self._shown(session, stretch.room_id, events, joined)
            if not more or len(shown) > self.limit or read >= _MOST_READ:
                break
            before = replace(stretch, upto=_position(events[-1]) - 1)
            found = await store.latest_events(session, [before], _AT_ONCE, self.wanted.conditions())
            events = found[stretch.room_id]
            read += len(events)
            more = len(events) == _AT_ONCE
        limited = more or len(shown) > self.limit
        shown = shown[: self.limit][::-1]
        if shown:
            start = _position(shown[0]) - 1
        else:
            start = stretch.upto if limited or stretch.after is None else stretch.after
        return Section(tuple(shown), start, limited)

    async def _shown(
        self, session: AsyncSession, room_id: str, events: Sequence[StoredEvent], joined: int | None
    ) -> list[StoredEvent]:
        wanted = [
            stored
            for stored in events
            if self.wanted.admits(stored.event) and (stored.event.is_state or stored.event.sender not in self.ignored)
        ]
        # Since the user joined everything is to be seen. Whether what was before is, has to be looked up.
        doubtful = [stored for stored in wanted if joined is None or _position(stored) < joined]
        if not doubtful:
            return wanted
        visible = {
            stored.event_id for stored in await visible_events(session, self.groups, room_id, doubtful, self.user_id)
        }
        return [
            stored
            for stored in wanted
            if stored.event_id in visible
            or (joined is not None and _position(stored) >= joined)
            or (stored.event.type, stored.event.state_key) == ("m.room.member", self.user_id)
        ]


def _position(stored: StoredEvent) -> int:
    return stored.position or 0
