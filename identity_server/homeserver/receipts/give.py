"""Giving a receipt (Client-Server API, "Receipts" and "Read and unread markers")."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.account_data import store as account_data
from identity_server.homeserver.federation.edus import queue_edus
from identity_server.homeserver.receipts import store, threads
from identity_server.homeserver.receipts.store import PRIVATE, READ, RECEIPT, Given
from identity_server.homeserver.receipts.threads import MAIN, thread_of
from identity_server.homeserver.streams import Streams, advance
from identity_server.homeserver.timeline import store as timeline
from identity_server.homeserver.timeline.stored import StoredEvent
from identity_server.matrix.errors import Forbidden, InvalidParam, NotFound
from identity_server.matrix.identifiers import domain_of

FULLY_READ = "m.fully_read"
TYPES = (READ, PRIVATE, FULLY_READ)


async def give_receipt(
    session: AsyncSession,
    streams: Streams,
    user_id: str,
    room_id: str,
    receipt_type: str,
    event_id: str,
    thread_id: str | None = None,
    *,
    now_ms: int,
) -> None:
    """One that falls behind what was given before changes nothing.

    Raises ``Forbidden`` outside the room, ``NotFound`` for an unknown event, ``InvalidParam`` for a thread that the
    event is not related to.
    """
    if await timeline.membership(session, room_id, user_id) != timeline.JOIN:
        raise Forbidden("You are not in the room")
    stored = await timeline.get_event(session, event_id)
    if stored is None or stored.position is None or stored.event.room_id != room_id:
        raise NotFound("There is no such event in the room")
    if receipt_type == FULLY_READ:
        await _mark_fully_read(session, streams, user_id, room_id, stored)
        return
    if thread_id is not None:
        await _check_thread(session, stored, thread_id)
    before = await store.find(session, room_id, user_id, receipt_type, thread_id or "")
    if before is not None and before.event_position is not None and before.event_position >= stored.position:
        return
    if receipt_type == READ:
        await _tell_servers(session, streams, user_id, room_id, event_id, thread_id, now_ms=now_ms)
    topics = [user_id] if receipt_type == PRIVATE else [room_id, user_id]
    position = await advance(session, streams, *topics)
    given = Given(room_id, user_id, receipt_type, thread_id or "", event_id, stored.position, now_ms, position)
    await store.put(session, given)


async def _check_thread(session: AsyncSession, stored: StoredEvent, thread_id: str) -> None:
    if thread_id == MAIN:
        is_related = await thread_of(session, stored.event) == MAIN
    else:
        # What relates to a root in another way stands in the main timeline, and so does the root; but clients mark a
        # thread read up to them.
        is_related = await threads.is_related(session, stored.event, thread_id)
    if not is_related:
        raise InvalidParam("The event is not related to the thread")


async def _mark_fully_read(
    session: AsyncSession, streams: Streams, user_id: str, room_id: str, stored: StoredEvent
) -> None:
    before = await account_data.get(session, user_id, room_id, FULLY_READ)
    if before is not None:
        marked = await timeline.get_event(session, before["event_id"])
        if marked is not None and (marked.position or 0) >= (stored.position or 0):
            return
    content = {"event_id": stored.event_id}
    await account_data.put(session, streams, user_id, room_id, FULLY_READ, content)


async def _tell_servers(
    session: AsyncSession,
    streams: Streams,
    user_id: str,
    room_id: str,
    event_id: str,
    thread_id: str | None,
    *,
    now_ms: int,
) -> None:
    others = await timeline.servers_in_room(session, room_id) - {domain_of(user_id)}
    if not others:
        return
    data: dict[str, Any] = {"ts": now_ms}
    if thread_id is not None:
        data["thread_id"] = thread_id
    content = {room_id: {READ: {user_id: {"event_ids": [event_id], "data": data}}}}
    key = f"{room_id} {user_id} {thread_id or ''}"
    await queue_edus(session, sorted(others), RECEIPT, content, key=key, streams=streams)
