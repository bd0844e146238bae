"""``m.receipt`` of other servers (Server-Server API, "Receipts")."""

from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.receipts import store
from identity_server.homeserver.receipts.store import READ, Given
from identity_server.homeserver.streams import Streams, advance
from identity_server.homeserver.timeline import store as timeline
from identity_server.matrix.canonical_json import LARGEST_INTEGER
from identity_server.matrix.identifiers import check_user_id, domain_of

_MOST_RECEIPTS = 1_000


async def receive_receipts(session: AsyncSession, streams: Streams, origin: str, content: Mapping[str, Any]) -> None:
    """Those that are not of the origin's users in the room, or not of the right form, are passed over."""
    for count, (room_id, user_id, event_id, ts, thread_id) in enumerate(_read(origin, content)):
        if count >= _MOST_RECEIPTS:
            return
        if await timeline.membership(session, room_id, user_id) != timeline.JOIN:
            continue
        stored = await timeline.get_event(session, event_id)
        event_position = stored.position if stored and stored.event.room_id == room_id else None
        before = await store.find(session, room_id, user_id, READ, thread_id)
        if before and (before.event_id == event_id or (before.event_position or 0) > (event_position or 0) > 0):
            continue
        position = await advance(session, streams, room_id)
        await store.put(session, Given(room_id, user_id, READ, thread_id, event_id, event_position, ts, position))


def _read(origin: str, content: Mapping[str, Any]) -> Iterator[tuple[str, str, str, int, str]]:
    for room_id, by_type in content.items():
        by_user = by_type.get(READ) if isinstance(by_type, Mapping) else None
        for user_id, receipt in (by_user if isinstance(by_user, Mapping) else {}).items():
            try:
                [event_id] = receipt["event_ids"]
                ts, thread_id = receipt["data"]["ts"], receipt["data"].get("thread_id", "")
                is_of_origin = domain_of(check_user_id(user_id)) == origin
            except (ValueError, LookupError, TypeError, AttributeError):
                continue
            is_timestamp = isinstance(ts, int) and not isinstance(ts, bool) and 0 <= ts <= LARGEST_INTEGER
            texts = (room_id, event_id, thread_id)
            if is_of_origin and is_timestamp and all(isinstance(text, str) and "\0" not in text for text in texts):
                yield room_id, user_id, event_id, ts, thread_id
