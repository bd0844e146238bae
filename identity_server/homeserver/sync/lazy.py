"""Memberships for clients that want only those that they need (Client-Server API, "Lazy-loading room members")."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.event import StateKey
from identity_server.homeserver.sync import store
from identity_server.homeserver.sync.members import SentMembers
from identity_server.homeserver.sync.request import SyncRequest
from identity_server.homeserver.sync.state import MEMBER, Told


@dataclass(frozen=True)
class Lazy:
    session: AsyncSession
    sent: SentMembers
    request: SyncRequest
    position: int

    async def add_to(self, told: Told, room_id: str, heroes: Collection[str]) -> Mapping[StateKey, str]:
        """The changed state, all changed memberships among it, with those of the timeline's senders that the client
        does not know."""
        needed = {stored.event.sender for stored in told.section.events} | set(heroes)
        needed -= {user_id for type_, user_id in told.state if type_ == MEMBER}
        if not self.request.wanted.state.include_redundant_members:
            needed -= self.sent.known(self._device, room_id, needed, told=self.request.told)
        state = dict(told.state)
        if needed:
            touched = {stored.event.key for stored in told.section.events if stored.event.is_state}
            before = {(MEMBER, user_id) for user_id in needed if (MEMBER, user_id) in touched}
            after = needed - {user_id for _, user_id in before}
            found = await store.current_members(self.session, {room_id: after})
            state |= {(MEMBER, user_id): event_id for user_id, event_id in found.get(room_id, {}).items()}
            if before and not self.request.state_after:
                state |= await store.held_before(self.session, room_id, before, told.section.start)
        self._note(room_id, state, told)
        return state

    def only(self, told: Told, room_id: str, members: Collection[str]) -> Mapping[StateKey, str]:
        """The whole state, with no memberships but those of ``members``."""
        state = {key: event_id for key, event_id in told.state.items() if key[0] != MEMBER or key[1] in members}
        self._note(room_id, state, told)
        return state

    def _note(self, room_id: str, state: Mapping[StateKey, str], told: Told) -> None:
        members = {user_id: event_id for (type_, user_id), event_id in state.items() if type_ == MEMBER}
        for stored in told.section.events:
            if stored.event.type == MEMBER and stored.event.state_key is not None:
                members[stored.event.state_key] = stored.event_id
        self.sent.note(self._device, room_id, members, position=self.position)

    @property
    def _device(self) -> tuple[str, str]:
        return self.request.user_id, self.request.device_id
