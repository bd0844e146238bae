"""What users are to be notified of, for their pushers (Client-Server API, "Push Notifications", "Server behaviour").

The stream is the outbox: one process follows it, asks each user's rules of each event, and lays down a task for each
pusher, all in the transaction that moves its cursor.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.account_data.ignored import ignored_users
from identity_server.homeserver.events.event import Event, member
from identity_server.homeserver.push import pushers
from identity_server.homeserver.push import store as push
from identity_server.homeserver.push.evaluate import notifies
from identity_server.homeserver.push.gateway import PUSH, Surroundings, notification_of
from identity_server.homeserver.push.pushers import HTTP, Concerned
from identity_server.homeserver.streams import current_position
from identity_server.homeserver.sync import store
from identity_server.homeserver.sync.parts import SyncParts
from identity_server.homeserver.sync.unread import in_total
from identity_server.homeserver.timeline import store as timeline
from identity_server.homeserver.timeline.stored import StoredEvent
from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database
from identity_server.runtime.tasks import Tasks

EVERY_MS = 500
_AT_ONCE = 200
_NAME, _ALIAS = ("m.room.name", ""), ("m.room.canonical_alias", "")

Task = dict[str, Any]


@dataclass(frozen=True)
class Pushing:
    database: Database
    parts: SyncParts
    tasks: Tasks
    clock: Clock

    async def look(self, _now_ms: int) -> None:
        """Catch up with the stream."""
        while await self._step():
            pass

    async def _step(self) -> bool:
        """Whether there is more."""
        async with self.database.reading() as session:
            first = await pushers.earliest_position(session)
            if first is None:
                return False
            position = await current_position(session)
            since = max(await push.pushed_position(session), first)
            if since >= position:
                return False
            events = await store.events_between(session, since, position, limit=_AT_ONCE)
            while events is None:
                position = since + (position - since) // 2
                events = await store.events_between(session, since, position, limit=_AT_ONCE)
            found = await self._tasks(session, events, since, position)
            is_all = position == await current_position(session)
        async with self.database.transaction() as session:
            await push.set_pushed_position(session, position)
            for task in found:
                await self.tasks.enqueue(session, PUSH, task, now_ms=self.clock.now_ms())
        return not is_all

    async def _tasks(self, session: AsyncSession, events: Sequence[StoredEvent], since: int, upto: int) -> list[Task]:
        found: list[Task] = []
        by_room: dict[str, list[StoredEvent]] = {}
        for stored in events:
            by_room.setdefault(stored.event.room_id, []).append(stored)
        for concerned in await pushers.joined_with_pushers(session, by_room):
            since_joined = [
                stored for stored in by_room[concerned.room_id] if (stored.position or 0) > concerned.position
            ]
            found += await self._for_user(session, concerned, since_joined, upto)
        for concerned in await pushers.invited_with_pushers(session, since, upto):
            invitation = await timeline.get_event(session, concerned.event_id)
            if invitation is not None:
                found += await self._for_user(session, concerned, [invitation], upto)
        return found

    async def _for_user(
        self, session: AsyncSession, concerned: Concerned, events: Iterable[StoredEvent], upto: int
    ) -> list[Task]:
        user_id, unread = concerned.user_id, self.parts.unread
        ignored = await ignored_users(session, user_id)
        others = [stored for stored in events if stored.event.sender not in {user_id, *ignored}]
        if not others:
            return []
        rules = await unread.rules_of(session, user_id, await push.rules_position(session, user_id))
        where = await unread.circumstances(session, user_id, concerned.room_id, others[-1].state_group)
        tasks = []
        for stored in others:
            actions = rules.actions_for(stored.event, where)
            if notifies(actions):
                tasks += await self._for_pushers(session, user_id, stored, concerned, actions, upto)
        return tasks

    async def _for_pushers(
        self,
        session: AsyncSession,
        user_id: str,
        stored: StoredEvent,
        concerned: Concerned,
        actions: Sequence[Any],
        upto: int,
    ) -> list[Task]:
        position = concerned.position if stored.position is None else stored.position
        kept = [
            pusher
            for pusher in await pushers.pushers_of(session, user_id)
            if pusher.about.kind == HTTP and pusher.position < position
        ]
        if not kept:
            return []
        unread = await self._unread(session, user_id, upto)
        surroundings = await _surroundings(session, stored.event)
        return [
            {
                "pusher": [user_id, pusher.about.app_id, pusher.about.pushkey],
                "ts": self.clock.now_ms(),
                "body": notification_of(stored.event, actions, surroundings, pusher, unread=unread),
            }
            for pusher in kept
        ]

    async def _unread(self, session: AsyncSession, user_id: str, upto: int) -> int:
        """How much there is in all rooms."""
        by_room = await self.parts.unread.of_rooms(
            session,
            user_id,
            await store.joined_rooms(session, user_id),
            upto,
            rules_position=await push.rules_position(session, user_id),
            receipts_position=await store.receipts_position(session, user_id),
            ignored=await ignored_users(session, user_id),
            recent={},
            since=0,
        )
        return sum(in_total(threads).notifications for threads in by_room.values())


async def _surroundings(session: AsyncSession, event: Event) -> Surroundings:
    sender = member(event.sender)
    state = await timeline.current_events(session, event.room_id, (sender, _NAME, _ALIAS))

    def text(key: tuple[str, str], name: str) -> str | None:
        value = state[key].content.get(name) if key in state else None
        return value if isinstance(value, str) and value else None

    return Surroundings(text(sender, "displayname"), text(_NAME, "name"), text(_ALIAS, "alias"))
