"""Events as clients are shown them (Client-Server API, "Room event format")."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.event import Event
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.stored import StoredEvent


@dataclass(frozen=True)
class Viewer:
    """Who is shown an event, and on which device."""

    user_id: str
    device_id: str = ""


def client_event(
    stored: StoredEvent,
    *,
    now_ms: int,
    viewer: Viewer | None = None,
    replaced: Event | None = None,
    redaction: StoredEvent | None = None,
    unsigned: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """``replaced``: the event of ``replaces_state``. ``redaction``: that of ``redacted_by``.

    ``unsigned``: what is known besides, such as ``membership`` and ``m.relations``.
    """
    event = stored.event
    shown: dict[str, Any] = {
        "type": event.type,
        "room_id": event.room_id,
        "event_id": event.event_id,
        "sender": event.sender,
        "content": event.content,
        "origin_server_ts": event.origin_server_ts,
        "unsigned": {"age": max(now_ms - event.origin_server_ts, 0), **(unsigned or {})},
    }
    if event.is_state:
        shown["state_key"] = event.state_key
    if event.redacts is not None:
        # Where the room version has it, and where clients of the other room versions look for it.
        shown["redacts"] = event.redacts
        shown["content"] = {**event.content, "redacts": event.redacts}
    about = shown["unsigned"]
    if stored.replaces_state is not None:
        about["replaces_state"] = stored.replaces_state
    if replaced is not None:
        about |= {"prev_content": replaced.content, "prev_sender": replaced.sender}
    if redaction is not None:
        about["redacted_because"] = client_event(redaction, now_ms=now_ms, viewer=viewer)
    if viewer and stored.transaction_id and (event.sender, stored.device_id) == (viewer.user_id, viewer.device_id):
        about["transaction_id"] = stored.transaction_id
    return shown


async def client_events(
    session: AsyncSession,
    events: Sequence[StoredEvent],
    *,
    now_ms: int,
    viewer: Viewer | None = None,
    unsigned: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Many at once, with what they replace and what redacts them read along; ``unsigned`` is by event ID."""
    others = {other for stored in events for other in (stored.replaces_state, stored.redacted_by) if other}
    found = await store.get_events(session, others) if others else {}
    shown = []
    for stored in events:
        replaced = found.get(stored.replaces_state) if stored.replaces_state else None
        shown.append(
            client_event(
                stored,
                now_ms=now_ms,
                viewer=viewer,
                replaced=replaced.event if replaced else None,
                redaction=found.get(stored.redacted_by) if stored.redacted_by else None,
                unsigned=(unsigned or {}).get(stored.event_id),
            )
        )
    return shown
