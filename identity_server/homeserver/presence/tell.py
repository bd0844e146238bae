"""Telling others whether a user is there, here and elsewhere ("Presence" of both APIs)."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.federation.edus import queue_edus
from identity_server.homeserver.presence import store
from identity_server.homeserver.presence.store import OFFLINE, ONLINE, STATES, Status
from identity_server.homeserver.streams import Streams, advance
from identity_server.homeserver.timeline import sharing
from identity_server.homeserver.timeline import store as timeline
from identity_server.matrix.canonical_json import LARGEST_INTEGER
from identity_server.matrix.errors import InvalidParam
from identity_server.matrix.identifiers import check_user_id, domain_of

PRESENCE = "m.presence"
_MOST_UPDATES = 500


async def tell(session: AsyncSession, streams: Streams, status: Status, *, now_ms: int) -> None:
    """Write down what has become of a user of ours, for all who share a room. Call it last."""
    servers = await sharing.servers_sharing(session, status.user_id) - {domain_of(status.user_id)}
    if servers:
        update = {"user_id": status.user_id, **status.as_content(now_ms=now_ms)}
        await queue_edus(session, sorted(servers), PRESENCE, {"push": [update]}, key=status.user_id, streams=streams)
    rooms = await timeline.joined_rooms(session, status.user_id)
    position = await advance(session, streams, status.user_id, *rooms)
    await store.put_status(session, status, position=position)


async def receive_presence(
    session: AsyncSession, streams: Streams, origin: str, content: Mapping[str, Any], *, now_ms: int
) -> None:
    """What the origin says of its users; what is not of the right form is passed over. Raises ``InvalidParam``."""
    updates = content.get("push")
    if not isinstance(updates, list):
        raise InvalidParam("push is a list")
    for update in updates[:_MOST_UPDATES]:
        status = _read(update, origin, now_ms=now_ms) if isinstance(update, Mapping) else None
        if status is None:
            continue
        if rooms := await timeline.joined_rooms(session, status.user_id):
            position = await advance(session, streams, *rooms)
            await store.put_status(session, status, position=position)


def _read(update: Mapping[str, Any], origin: str, *, now_ms: int) -> Status | None:
    user_id, presence, status_msg = update.get("user_id"), update.get("presence"), update.get("status_msg")
    ago = update.get("last_active_ago", 0)
    try:
        is_of_origin = isinstance(user_id, str) and domain_of(check_user_id(user_id)) == origin
    except ValueError:
        is_of_origin = False
    if not is_of_origin or not isinstance(user_id, str) or presence not in STATES:
        return None
    if not isinstance(ago, int) or isinstance(ago, bool) or not 0 <= ago <= LARGEST_INTEGER:
        ago = 0
    if not isinstance(status_msg, str) or "\0" in status_msg:
        status_msg = None
    is_active = presence == ONLINE and update.get("currently_active") is True
    return Status(user_id, presence, status_msg, max(now_ms - ago, 0), is_active)


def absent(user_id: str, *, now_ms: int) -> Status:
    """Of whom nothing is known."""
    return Status(user_id, OFFLINE, None, now_ms, currently_active=False)
