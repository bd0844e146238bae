"""Hearing from a room that we are not in that an invitation, or a knock, of a user of ours has come to nothing."""

from typing import Any

from identity_server.homeserver.events.event import Event
from identity_server.homeserver.events.format import InvalidEvent
from identity_server.homeserver.events.versions import VERSIONS
from identity_server.homeserver.federation.checks import BadSignature, check_event
from identity_server.homeserver.federation.receive import Receiver
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.outside import put_outside_membership
from identity_server.matrix.identifiers import domain_of

_WAITING = ("invite", "knock")
_OVER = ("leave", "ban")


async def take_outside(receiver: Receiver, origin: str, room_id: str, pdu: Any) -> str | None:
    """Note that a user's invitation or knock is over, if ``pdu`` says so; what was wrong with it.

    We know nothing of the room's state. So it counts only from who invited, and not if it comes from before that: an
    unban may overtake no invitation. Or it rests on the very event that it puts an end to, which nobody outside the
    room has seen.
    """
    user_id = pdu.get("state_key") if isinstance(pdu, dict) else None
    if not isinstance(user_id, str) or "\0" in user_id or not _is_of(user_id, receiver.timeline.server_name):
        return "We are not in the room"
    async with receiver.database.reading() as session:
        row = await store.membership_row(session, room_id, user_id)
        waiting = await store.get_event(session, row.event_id) if row and row.membership in _WAITING else None
    if row is None or waiting is None:
        return "We are not in the room"
    try:
        event = await check_event(receiver.fetch.key_ring, pdu, VERSIONS[waiting.event.version.identifier])
    except (InvalidEvent, BadSignature) as error:
        return str(error)
    if event.room_id != room_id or event.key != waiting.event.key or event.membership not in _OVER:
        return "We are not in the room"
    if not _may_end(event, waiting.event):
        return "The event does not come from who invited"
    async with receiver.database.transaction() as session:
        await put_outside_membership(session, receiver.timeline, event)
    return None


def _may_end(event: Event, waiting: Event) -> bool:
    if waiting.event_id in event.auth_events:
        return True
    return event.sender == waiting.sender and event.depth >= waiting.depth


def _is_of(user_id: str, server_name: str) -> bool:
    try:
        return domain_of(user_id) == server_name
    except ValueError:
        return False
