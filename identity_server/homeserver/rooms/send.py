"""Sending what a client asks to be sent into a room."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.access.current import Requester
from identity_server.homeserver.rooms.carry_over import TOMBSTONE, follow_replacement
from identity_server.homeserver.rooms.checks import check_content, check_creators, check_relation, check_replacement
from identity_server.homeserver.timeline.build import Draft
from identity_server.homeserver.timeline.redactions import REDACTION
from identity_server.homeserver.timeline.room import lock_room
from identity_server.homeserver.timeline.send import already_sent, send_event
from identity_server.homeserver.timeline.timeline import Timeline


async def send_message(
    session: AsyncSession,
    timeline: Timeline,
    user: Requester,
    room_id: str,
    event_type: str,
    content: dict[str, Any],
    transaction_id: str | None,
    *,
    now_ms: int,
) -> str:
    """The event ID; the same for the same transaction ID.

    Raises as ``send_event``, ``BadJson`` and ``DuplicateAnnotation``.
    """
    redacts = content.get("redacts") if event_type == REDACTION else None
    draft = Draft(
        room_id,
        event_type,
        user.user_id,
        content,
        redacts=redacts if isinstance(redacts, str) else None,
        sent_by=_sent_by(user, transaction_id),
    )
    check_replacement(draft)
    if "m.relates_to" in content:
        await lock_room(session, room_id)
        sent = await already_sent(session, draft)
        if sent is not None:
            return sent.event_id
        await check_relation(session, draft)
    return (await send_event(session, timeline, draft, now_ms=now_ms)).event_id


async def send_redaction(
    session: AsyncSession,
    timeline: Timeline,
    user: Requester,
    room_id: str,
    event_id: str,
    content: dict[str, Any],
    transaction_id: str | None,
    *,
    now_ms: int,
) -> str:
    """The event ID of the redaction; the same for the same transaction ID."""
    sent_by = _sent_by(user, transaction_id)
    draft = Draft(room_id, REDACTION, user.user_id, content, redacts=event_id, sent_by=sent_by)
    return (await send_event(session, timeline, draft, now_ms=now_ms)).event_id


async def send_state(
    session: AsyncSession,
    timeline: Timeline,
    user_id: str,
    room_id: str,
    key: tuple[str, str],
    content: dict[str, Any],
    *,
    now_ms: int,
) -> str:
    """The event ID; that of the present event if it says the same. Memberships go through ``membership.py``."""
    event_type, state_key = key
    draft = Draft(room_id, event_type, user_id, content, state_key=state_key)
    room = await lock_room(session, room_id)
    check_content(draft, timeline.server_name, room.version)
    await check_creators(session, draft)
    event_id = (await send_event(session, timeline, draft, now_ms=now_ms)).event_id
    if key == TOMBSTONE:
        await follow_replacement(session, timeline, room_id, content["replacement_room"])
    return event_id


def _sent_by(user: Requester, transaction_id: str | None) -> tuple[str, str] | None:
    return None if transaction_id is None else (user.device_id, transaction_id)
