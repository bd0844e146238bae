"""Rooms that the user has left, was removed from, or did not want to join: up to the moment of that."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.sync import store
from identity_server.homeserver.sync.request import SyncRequest
from identity_server.homeserver.sync.show import JOIN, Show
from identity_server.homeserver.sync.standing import Rooms
from identity_server.homeserver.sync.state import MEMBER, Told, changed_state, end_at, whole_state
from identity_server.homeserver.sync.store import Standing, Stretch
from identity_server.homeserver.sync.timeline import Reader, Section
from identity_server.homeserver.timeline import store as timeline
from identity_server.homeserver.timeline.position import position_token
from identity_server.homeserver.timeline.stored import OUTLIER, StoredEvent


@dataclass(frozen=True)
class LeftRooms:
    session: AsyncSession
    request: SyncRequest
    show: Show
    reader: Reader

    async def gather(self, rooms: Rooms, account_data: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
        """The rooms as they are answered."""
        told = {row.room_id: await self._told(row) for row in rooms.left}
        ids = [event_id for of_room in told.values() for event_id in of_room.state.values()]
        state = await self.show.state(self.session, ids) if ids else {}
        answers = {}
        for room_id, of_room in told.items():
            section = of_room.section
            events = await self.show.timeline(self.session, room_id, section.events, joined=None, at_end=False)
            answers[room_id] = {
                "timeline": {
                    "events": events,
                    "limited": section.limited,
                    "prev_batch": position_token(section.start),
                },
                "state_after" if self.request.state_after else "state": {"events": state.get(room_id, [])},
                "account_data": {"events": account_data.get(room_id, [])},
            }
        return answers

    async def _told(self, row: Standing) -> Told:
        history = await store.own_memberships(self.session, row.room_id, self.request.user_id)
        told, upto, state_after = self.request.told, row.position, self.request.state_after
        before = [(position, membership) for position, membership in history if position < upto]
        was_in = bool(before) and JOIN in {membership for position, membership in before if position > told}
        last_told = [membership for position, membership in before if position <= told]
        if self.request.since is not None and last_told and last_told[-1] == JOIN:
            section = await self._section(row, Stretch(row.room_id, told, upto))
            changes = await store.changes_in(self.session, [row.room_id], told, upto)
            return self._lazy(changed_state(section, changes, state_after=state_after), all_changed=True)
        if was_in or (self.request.since is None and any(membership == JOIN for _, membership in before)):
            section = await self._section(row, Stretch(row.room_id, None, upto))
            end = await end_at(self.session, row.room_id, upto)
            return self._lazy(
                await whole_state(self.session, row.room_id, section, end.state, state_after=state_after),
                all_changed=False,
            )
        # Never in it: all there is to tell is that it is over.
        own = await self._own(row)
        return Told(Section(tuple(own), upto - 1, limited=False), {})

    async def _section(self, row: Standing, stretch: Stretch) -> Section:
        section = (await self.reader.read(self.session, [stretch]))[row.room_id]
        own = await self._own(row)
        if own and own[0].event_id not in {stored.event_id for stored in section.events} and own[0].position is None:
            # We were not told of it by the room itself.
            section = replace(section, events=(*section.events, *own))
        return section

    async def _own(self, row: Standing) -> Sequence[StoredEvent]:
        """The membership event that ended it."""
        stored = await timeline.get_event(self.session, row.event_id)
        if stored is None or (stored.standing != OUTLIER and stored.position is None):
            return ()
        admitted = self.request.wanted.timeline.admits(stored.event) and self.reader.limit > 0
        return [stored] if admitted else ()

    def _lazy(self, told: Told, *, all_changed: bool) -> Told:
        if not self.request.wanted.lazy or all_changed:
            return told
        needed = {stored.event.sender for stored in told.section.events} | {self.request.user_id}
        state = {key: event_id for key, event_id in told.state.items() if key[0] != MEMBER or key[1] in needed}
        return replace(told, state=state)
