"""What a user has been notified of, or would have been (Client-Server API, "Listing Notifications")."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.account_data.ignored import ignored_users
from identity_server.homeserver.push import store as push
from identity_server.homeserver.push.evaluate import highlights, notifies
from identity_server.homeserver.receipts import store as receipts
from identity_server.homeserver.receipts.threads import threads_of
from identity_server.homeserver.streams import current_position
from identity_server.homeserver.sync import store
from identity_server.homeserver.sync.parts import SyncParts
from identity_server.homeserver.sync.unread import how_far
from identity_server.homeserver.timeline.client_format import Viewer
from identity_server.homeserver.timeline.relations import shown_events
from identity_server.homeserver.timeline.stored import StoredEvent

_AT_ONCE = 200
# So many events are looked at before the client is asked to come again.
_MOST_READ = 2_000


@dataclass(frozen=True)
class _Found:
    stored: StoredEvent
    actions: Sequence[Any]
    is_read: bool


async def notifications_of(
    session: AsyncSession,
    parts: SyncParts,
    viewer: Viewer,
    *,
    before: int | None,
    limit: int,
    highlighted: bool,
    now_ms: int,
) -> dict[str, Any]:
    """At most ``limit``, the latest first, of events at position <= ``before`` (None: now). Only those that were
    ``highlighted``, if that is set."""
    at = await current_position(session) if before is None else before
    joined = await store.joined_rooms(session, viewer.user_id)
    found: list[_Found] = []
    read, more = 0, True
    while more and len(found) < limit and read < _MOST_READ:
        events = await store.events_before(session, joined, at, _AT_ONCE)
        read += len(events)
        more = len(events) == _AT_ONCE
        for notified in await _notified(session, parts, viewer.user_id, joined, events):
            if highlighted and not highlights(notified.actions):
                continue
            if len(found) == limit:
                more = True
                break
            found.append(notified)
            at = (notified.stored.position or 0) - 1
        else:
            at = (events[-1].position or 0) - 1 if events else at
    shown = await _shown(session, found, viewer, now_ms=now_ms)
    return {"notifications": shown, "next_token": str(at)} if more else {"notifications": shown}


async def _notified(
    session: AsyncSession, parts: SyncParts, user_id: str, joined: dict[str, int], events: Sequence[StoredEvent]
) -> list[_Found]:
    ignored = {user_id, *await ignored_users(session, user_id)}
    others = [
        stored
        for stored in events
        if stored.event.sender not in ignored and (stored.position or 0) > joined[stored.event.room_id]
    ]
    if not others:
        return []
    rules = await parts.unread.rules_of(session, user_id, await push.rules_position(session, user_id))
    rooms = {stored.event.room_id for stored in others}
    groups = await store.state_groups_of(session, rooms)
    where = {room_id: await parts.unread.circumstances(session, user_id, room_id, groups[room_id]) for room_id in rooms}
    given = await receipts.given_by(session, user_id, rooms)
    read = {room_id: how_far(given.get(room_id, ()), 0) for room_id in rooms}
    threads = await threads_of(session, [stored.event for stored in others])
    found = []
    for stored in others:
        room_id = stored.event.room_id
        actions = rules.actions_for(stored.event, where[room_id])
        if notifies(actions):
            is_read = (stored.position or 0) <= read[room_id].upto(threads[stored.event_id])
            found.append(_Found(stored, actions, is_read))
    return found


async def _shown(
    session: AsyncSession, found: Sequence[_Found], viewer: Viewer, *, now_ms: int
) -> list[dict[str, Any]]:
    notifications = []
    for notified in found:
        [event] = await shown_events(session, [notified.stored], viewer=viewer, now_ms=now_ms)
        notifications.append(
            {
                "actions": list(notified.actions),
                "event": event,
                "read": notified.is_read,
                "room_id": event.pop("room_id"),
                "ts": notified.stored.event.origin_server_ts,
            }
        )
    return notifications
