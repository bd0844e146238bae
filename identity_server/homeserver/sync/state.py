"""The state that a client has to be told so that it ends with the current one.

What the client knows is what the current state was at ``since``: ``state_history`` says what has changed. A fork of
the room may heal to a state that the events of the timeline, put one over the other, do not make: then what misleads
is left to GET /messages, and the timeline begins after it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.event import CREATE, StateKey
from identity_server.homeserver.sync import store
from identity_server.homeserver.sync.store import Change
from identity_server.homeserver.sync.timeline import Section

MEMBER = "m.room.member"


@dataclass(frozen=True)
class Told:
    """The timeline as it is to be shown, and the state beside it: event IDs by key."""

    section: Section
    state: Mapping[StateKey, str]
    members_changed: bool = False
    """Whether the memberships may be others than what the client knew before."""


def changed_state(section: Section, changes: Sequence[Change], *, state_after: bool) -> Told:
    """For a client that knows the state before ``changes``, which are all up to the end of the timeline, in order."""
    members_changed = any(change.type == MEMBER for change in changes)
    end = {change.key: change.event_id for change in changes}
    if state_after:
        return Told(section, _without_gaps(end), members_changed)
    section = _not_misleading(section, end)
    touched = {stored.event.key for stored in section.events if stored.event.is_state}
    # Under a key that the timeline changes, the client starts from what was before it.
    start = {change.key: change.event_id for change in changes if change.position <= section.start}
    state = {key: event_id for key, event_id in end.items() if key not in touched}
    state |= {key: event_id for key, event_id in start.items() if key in touched}
    return Told(section, _without_gaps(state), members_changed)


async def whole_state(
    session: AsyncSession, room_id: str, section: Section, end: Mapping[StateKey, str], *, state_after: bool
) -> Told:
    """For a client that knows nothing of the room; ``end``: the state at the end of the timeline."""
    if state_after:
        return Told(section, end, members_changed=True)
    section = _not_misleading(section, end)
    touched = {stored.event.key for stored in section.events if stored.event.is_state}
    state = {key: event_id for key, event_id in end.items() if key not in touched}
    # Before a room's first event there was nothing.
    if touched and CREATE not in touched:
        state |= await store.held_before(session, room_id, touched, section.start)
    return Told(section, state, members_changed=True)


async def ends_of(
    session: AsyncSession, room_ids: Sequence[str], *, without_members: bool
) -> dict[str, dict[StateKey, str]]:
    """The current states, by room."""
    return await store.current_ids(session, room_ids, without=MEMBER if without_members else None)


async def add_members(
    session: AsyncSession, ends: Mapping[str, dict[StateKey, str]], user_ids: Mapping[str, set[str]]
) -> None:
    """Add the memberships of ``user_ids`` to the current states."""
    found = await store.current_members(session, user_ids)
    for room_id, members in found.items():
        ends[room_id].update({(MEMBER, user_id): event_id for user_id, event_id in members.items()})


def _not_misleading(section: Section, end: Mapping[StateKey, str | None]) -> Section:
    """Without what would leave the client with another state than ``end``.

    A member's name that lost against another in it is no reason to withhold all before: they are a member either way.
    """
    shown = {stored.event_id: stored.event for stored in section.events}
    last: set[StateKey] = set()
    for at in range(len(section.events) - 1, -1, -1):
        event = section.events[at].event
        if not event.is_state or event.key in last:
            continue
        last.add(event.key)
        held = end.get(event.key)
        if held == event.event_id:
            continue
        won = shown.get(held) if held is not None else None
        if won is None or event.type != MEMBER or won.membership != event.membership:
            return section.cut(at + 1)
    return section


def _without_gaps(state: Mapping[StateKey, str | None]) -> dict[StateKey, str]:
    # That a key holds nothing any more cannot be said.
    return {key: event_id for key, event_id in state.items() if event_id is not None}
