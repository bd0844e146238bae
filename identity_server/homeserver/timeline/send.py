"""Sending an event on behalf of one of our users, in one transaction."""

from dataclasses import dataclass

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.auth_rules import authorise
from identity_server.homeserver.events.event import Event, StateKey
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.append import write
from identity_server.homeserver.timeline.build import Draft, build, needed_keys, parents_of
from identity_server.homeserver.timeline.redactions import check_redaction
from identity_server.homeserver.timeline.room import LockedRoom, lock_room
from identity_server.homeserver.timeline.state import group_after
from identity_server.homeserver.timeline.stored import COLUMNS, EVENTS, StoredEvent, stored_event
from identity_server.homeserver.timeline.timeline import Timeline

_SENT_BY = select(*COLUMNS).where(
    EVENTS.c.sender == bindparam("sender"),
    EVENTS.c.device_id == bindparam("device_id"),
    EVENTS.c.transaction_id == bindparam("transaction_id"),
)


@dataclass(frozen=True)
class Prepared:
    """An event that may be sent, not written yet; ``before``: the state group before it."""

    event: Event
    before: int | None
    replaces: str | None


async def send_event(session: AsyncSession, timeline: Timeline, draft: Draft, *, now_ms: int) -> StoredEvent:
    """The event as it was sent, or was already sent by the same transaction ID, or stands in the state unchanged.

    Raises ``NotFound``, ``NotAllowed``, ``Forbidden`` and ``InvalidEvent``.
    """
    room = await lock_room(session, draft.room_id)
    sent = await already_sent(session, draft)
    if sent is not None:
        return sent
    prepared = await prepare_event(session, timeline, room, draft, now_ms=now_ms)
    if isinstance(prepared, StoredEvent):
        return prepared
    return await write(
        session,
        timeline,
        room,
        prepared.event,
        before=prepared.before,
        replaces=prepared.replaces,
        sent_by=draft.sent_by,
        is_ours=True,
    )


async def prepare_event(
    session: AsyncSession, timeline: Timeline, room: LockedRoom, draft: Draft, *, now_ms: int
) -> Prepared | StoredEvent:
    """The event, built and authorised; or the one that says the same in the state already.

    Others may have to sign what is prepared; ``append`` it then, with ``is_ours``. Raises as ``send_event``.
    """
    before, state = await state_for(session, timeline, room, draft)
    present = state.get(draft.key) if draft.key else None
    if present is not None and present.sender == draft.sender and present.content == draft.content:
        unchanged = await store.get_event(session, present.event_id)
        assert unchanged is not None  # it stands in the state
        return unchanged
    event = build(timeline, room, draft, state, now_ms=now_ms)
    authorise(event, state)
    if draft.redacts is not None:
        await check_redaction(session, event, state)
    return Prepared(event, before, present.event_id if present else None)


async def state_for(
    session: AsyncSession, timeline: Timeline, room: LockedRoom, draft: Draft
) -> tuple[int | None, dict[StateKey, Event]]:
    """The state group before the event, and what it holds of what the event is authorised by or would replace."""
    keys = needed_keys(draft, room.version)
    wanted = keys | {draft.key} if draft.key else keys
    parents = parents_of(room)
    if len(parents) == len(room.extremities):
        return room.state_group, await store.current_events(session, room.room_id, wanted)
    before = await group_after(session, timeline.groups, parents)
    ids = await timeline.groups.state_of(session, before)
    found = await store.get_events(session, [ids[key] for key in wanted if key in ids])
    return before, {stored.event.key: stored.event for stored in found.values()}


async def already_sent(session: AsyncSession, draft: Draft) -> StoredEvent | None:
    """What the device sent by the same endpoint with the same transaction ID ("Transaction identifiers")."""
    if draft.sent_by is None:
        return None
    device_id, transaction_id = draft.sent_by
    sent_by = {"sender": draft.sender, "device_id": device_id, "transaction_id": transaction_id}
    for row in await session.execute(_SENT_BY, sent_by):
        sent = stored_event(row)
        # The scope of a transaction ID is an endpoint, path and all.
        if (sent.event.room_id, sent.event.type, sent.event.redacts) == (draft.room_id, draft.type, draft.redacts):
            return sent
    return None
