"""What of a room's history other servers may see (Client-Server API, "Room History Visibility", of their users)."""

from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.event import Event, StateMap
from identity_server.homeserver.events.redaction import redact_event
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.erasure import erased_senders
from identity_server.homeserver.timeline.state import StateGroups
from identity_server.homeserver.timeline.stored import EVENTS, StoredEvent
from identity_server.homeserver.timeline.visibility import HISTORY_VISIBILITY, visibility_of
from identity_server.matrix.identifiers import domain_of
from identity_server.runtime.database import in_chunks

_MEMBER = "m.room.member"
_OPEN = ("shared", "world_readable")


async def as_seen_by(
    session: AsyncSession, groups: StateGroups, server_name: str, events: Sequence[StoredEvent]
) -> list[Event]:
    """``events`` as ``server_name`` may see them: those that its users may not see, and those of erased users, are
    redacted.

    They stay in the graph, which would have holes otherwise.
    """
    rules = await _visibilities(session, groups, events)
    erased = await erased_senders(session, events)
    seen: list[Event] = []
    allowed: dict[int, bool] = {}
    for stored in events:
        group = stored.state_group
        if stored.event.sender in erased:
            seen.append(redact_event(stored.event))
            continue
        if stored.event.sender_server == server_name or group is None or rules[group] in _OPEN:
            seen.append(stored.event)
            continue
        if group not in allowed:
            state = await groups.state_of(session, group)
            allowed[group] = await _has_user_there(session, state, server_name, rules[group])
        seen.append(stored.event if allowed[group] else redact_event(stored.event))
    return seen


async def _visibilities(session: AsyncSession, groups: StateGroups, events: Sequence[StoredEvent]) -> Mapping[int, str]:
    """By state group."""
    ids: dict[int, str | None] = {}
    for stored in events:
        if stored.state_group is not None and stored.state_group not in ids:
            ids[stored.state_group] = (await groups.state_of(session, stored.state_group)).get(HISTORY_VISIBILITY)
    found = await store.get_events(session, {event_id for event_id in ids.values() if event_id})
    return {
        group: visibility_of(found[event_id].event if event_id in found else None) for group, event_id in ids.items()
    }


async def _has_user_there(session: AsyncSession, state: StateMap, server_name: str, visibility: str) -> bool:
    """Whether a user of the server was joined, or invited where that suffices, when ``state`` was the room's."""
    enough = ("join", "invite") if visibility == "invited" else ("join",)
    theirs = [
        event_id for (type_, user_id), event_id in state.items() if type_ == _MEMBER and _is_of(user_id, server_name)
    ]
    for chunk in in_chunks(theirs):
        rows = await store.get_events(session, chunk)
        if any(stored.event.membership in enough for stored in rows.values()):
            return True
    return False


def _is_of(user_id: str, server_name: str) -> bool:
    try:
        return domain_of(user_id) == server_name
    except ValueError:
        return False


async def pdus_of(session: AsyncSession, event_ids: Sequence[str]) -> list[str]:
    """Events as they are written, in JSON: for answers so large that reading them would take its time."""
    found: dict[str, str] = {}
    for chunk in in_chunks(event_ids):
        rows = await session.execute(select(EVENTS.c.event_id, EVENTS.c.pdu).where(EVENTS.c.event_id.in_(chunk)))
        found.update({row.event_id: row.pdu for row in rows})
    return [found[event_id] for event_id in event_ids if event_id in found]
