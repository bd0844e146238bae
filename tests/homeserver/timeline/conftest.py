"""A room of ours that users of another server write to as well, on whatever part of its graph they have seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.auth_rules import auth_keys, authorise
from identity_server.homeserver.events.event import Event
from identity_server.homeserver.events.hashing import seal
from identity_server.homeserver.events.versions import RoomVersion, room_version
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.append import append
from identity_server.homeserver.timeline.build import Draft
from identity_server.homeserver.timeline.send import send_event
from identity_server.homeserver.timeline.start import start_room
from identity_server.homeserver.timeline.state import group_after
from identity_server.homeserver.timeline.stored import ACCEPTED, StoredEvent
from identity_server.homeserver.timeline.timeline import Timeline
from identity_server.matrix.signing import SigningKey
from identity_server.runtime.database import Database
from identity_server.runtime.tokens import FakeEntropy

ALICE = "@alice:hs.test"
BOB = "@bob:other.test"
_THEIR_KEY = SigningKey.from_seed("ed25519:1", bytes(32))


@dataclass
class Shared:
    """``ts`` goes on with every event."""

    database: Database
    timeline: Timeline
    room_id: str
    version: RoomVersion
    ts: int = 1_700_000_000_000

    async def say(self, event_type: str, content: dict[str, Any], key: str | None = None, **more: Any) -> StoredEvent:
        """By one of ours, after everything."""
        self.ts += 1
        draft = Draft(self.room_id, event_type, ALICE, content, state_key=key, **more)
        async with self.database.transaction() as session:
            return await send_event(session, self.timeline, draft, now_ms=self.ts)

    async def hear(
        self,
        parents: Sequence[str],
        event_type: str,
        content: dict[str, Any],
        key: str | None = None,
        *,
        sender: str = BOB,
        standing: str = ACCEPTED,
        redacts: str | None = None,
    ) -> Event:
        """By one of theirs, who has seen ``parents``. Raises ``NotAllowed``."""
        event = await self.write(parents, event_type, content, key, sender=sender, redacts=redacts)
        await self.arrive(event, standing)
        return event

    async def write(
        self,
        parents: Sequence[str],
        event_type: str,
        content: dict[str, Any],
        key: str | None = None,
        *,
        sender: str = BOB,
        redacts: str | None = None,
    ) -> Event:
        """As ``hear``, but it does not arrive yet."""
        self.ts += 1
        async with self.database.transaction() as session:  # where forks meet, their group is written
            state = await self._state_after(session, parents)
            depths = (await store.get_events(session, parents)).values()
        wanted = auth_keys(event_type, sender, key, content, self.version)
        pdu: dict[str, Any] = {
            "room_id": self.room_id,
            "type": event_type,
            "sender": sender,
            "content": content,
            "depth": max(stored.event.depth for stored in depths) + 1,
            "prev_events": list(parents),
            "auth_events": [event.event_id for at, event in state.items() if at in wanted],
            "origin_server_ts": self.ts,
        }
        if key is not None:
            pdu["state_key"] = key
        if redacts is not None:
            (content if self.version.redacts_in_content else pdu)["redacts"] = redacts
        event = seal(pdu, self.version, "other.test", _THEIR_KEY)
        authorise(event, state)
        return event

    async def arrive(self, event: Event, standing: str = ACCEPTED) -> int | None:
        async with self.database.transaction() as session:
            before = await group_after(session, self.timeline.groups, event.prev_events)
            return await append(session, self.timeline, event, state_before=before, standing=standing)

    async def _state_after(self, session: AsyncSession, parents: Sequence[str]) -> dict[tuple[str, str], Event]:
        group = await group_after(session, self.timeline.groups, parents)
        ids = {} if group is None else await self.timeline.groups.state_of(session, group)
        found = await store.get_events(session, list(ids.values()))
        return {stored.event.key: stored.event for stored in found.values()}


@pytest.fixture
def version() -> str:
    """Tests that need another override this."""
    return "11"


@pytest.fixture
async def room(state: dict[str, Any], version: str) -> Shared:
    database, timeline = state["resources"].database, state["timeline"]
    content = {"room_version": version, **({"creator": ALICE} if version == "10" else {})}
    async with database.transaction() as session:
        created = await start_room(
            session, timeline, ALICE, content, room_version(version), entropy=FakeEntropy(), now_ms=Shared.ts
        )
    shared = Shared(database, timeline, created.event.room_id, room_version(version))
    await shared.say("m.room.member", {"membership": "join"}, ALICE)
    users = {BOB: 60} if version == "12" else {ALICE: 100, BOB: 60}
    await shared.say("m.room.power_levels", {"users": users}, "")
    last = await shared.say("m.room.join_rules", {"join_rule": "public"}, "")
    await shared.hear([last.event_id], "m.room.member", {"membership": "join"}, BOB)
    return shared
