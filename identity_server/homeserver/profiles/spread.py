"""Telling rooms of a new name or avatar (Client-Server API, "Events on Change of Profile Information")."""

from dataclasses import dataclass
from typing import Annotated, Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.profiles import store
from identity_server.homeserver.profiles.fields import AVATAR_URL, DISPLAYNAME
from identity_server.homeserver.timeline import store as rooms
from identity_server.homeserver.timeline.build import Draft
from identity_server.homeserver.timeline.send import send_event
from identity_server.homeserver.timeline.timeline import Timeline
from identity_server.matrix.errors import MatrixError
from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database
from identity_server.runtime.dependencies import opened
from identity_server.runtime.tasks import Payload, Tasks

SPREAD = "profile"

_AT_ONCE = 50
_AGAIN_AFTER_MS = 60_000
_MEMBER = "m.room.member"
# What belongs to the moment of joining, and is not said again.
_OF_JOINING = ("reason", "join_authorised_via_users_server", "third_party_invite")


@dataclass(frozen=True)
class Spreading:
    """Has a transaction for each room, so that nobody waits for another's room, and runs in none."""

    database: Database
    timeline: Timeline
    clock: Clock

    async def plan(self, session: AsyncSession, tasks: Tasks, user_id: str, *, now_ms: int) -> None:
        """In the transaction that changes the profile: whatever ``at_once`` leaves is done nevertheless."""
        is_much = len(await rooms.joined_rooms(session, user_id)) > _AT_ONCE
        await tasks.enqueue(
            session, SPREAD, {"user_id": user_id}, now_ms=now_ms if is_much else now_ms + _AGAIN_AFTER_MS
        )

    async def at_once(self, user_id: str) -> None:
        """To as many rooms as somebody may be kept waiting for."""
        await self._spread(user_id, _AT_ONCE)

    async def run(self, payload: Payload) -> None:
        """The durable task."""
        await self._spread(payload["user_id"], None)

    async def _spread(self, user_id: str, at_most: int | None) -> None:
        async with self.database.reading() as session:
            joined = sorted(await rooms.joined_rooms(session, user_id))
        for room_id in joined[:at_most]:
            try:
                async with self.database.transaction() as session:
                    await self._tell(session, room_id, user_id)
            except MatrixError:
                continue  # it is the room's to refuse

    async def _tell(self, session: AsyncSession, room_id: str, user_id: str) -> None:
        """Nothing is sent where nothing has changed."""
        member = await rooms.state_event(session, room_id, _MEMBER, user_id)
        if member is None or member.membership != "join":
            return
        profile = await store.profile_of(session, user_id)
        content: dict[str, Any] = {name: value for name, value in member.content.items() if name not in _OF_JOINING}
        for name in (DISPLAYNAME, AVATAR_URL):
            content.pop(name, None)
            if profile.get(name) is not None:
                content[name] = profile[name]
        if content == {name: value for name, value in member.content.items() if name not in _OF_JOINING}:
            return
        draft = Draft(room_id, _MEMBER, user_id, content, state_key=user_id)
        await send_event(session, self.timeline, draft, now_ms=self.clock.now_ms())


OpenSpreading = Annotated[Spreading, opened("spreading")]
