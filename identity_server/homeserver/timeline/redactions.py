"""Which redactions hold, and what they do ("Handling redactions" of the room versions)."""

from collections.abc import Mapping
from typing import Any, cast

import orjson
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.event import CREATE, POWER_LEVELS, Event, StateKey, StateMap
from identity_server.homeserver.events.power_levels import PowerLevels
from identity_server.homeserver.events.redaction import redact
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.state import StateGroups
from identity_server.homeserver.timeline.stored import ACCEPTED, COLUMNS, EVENTS, StoredEvent, stored_event
from identity_server.matrix.errors import Forbidden, InvalidParam, NotFound

REDACTION = "m.room.redaction"
# What a room stands on must not be taken away by mistake.
_LASTING = frozenset({"m.room.create", "m.room.server_acl"})


async def check_redaction(session: AsyncSession, redaction: Event, state: Mapping[StateKey, Event]) -> None:
    """For one of our users, before it is sent. Raises ``Forbidden``, ``NotFound`` and ``InvalidParam``."""
    target = await store.get_event(session, cast(str, redaction.redacts))
    if target is not None and target.event.room_id != redaction.room_id:
        raise InvalidParam("The event is in another room")
    if target is not None and target.event.type in _LASTING:
        raise Forbidden(f"{target.event.type} cannot be redacted")
    if _has_power(redaction, state):
        return
    if target is None:
        raise NotFound("The event to redact is not known")
    if target.event.sender != redaction.sender:
        raise Forbidden("You may redact only your own events")


async def holds(
    session: AsyncSession, groups: StateGroups, redaction: Event, target: Event, before: int | None
) -> bool:
    """Whether the redaction is to be applied to ``target``; ``before``: the state group that it was sent upon."""
    if target.room_id != redaction.room_id or target.type in _LASTING:
        return False
    if target.sender_server == redaction.sender_server:
        return True
    ids: StateMap = await groups.state_of(session, before)
    found = await store.get_events(session, [ids[key] for key in (CREATE, POWER_LEVELS) if key in ids])
    return _has_power(redaction, {stored.event.key: stored.event for stored in found.values()})


async def apply_redaction(session: AsyncSession, redaction_id: str, target: StoredEvent) -> None:
    """Take from the event what its room version does not protect. It keeps its place, and stands for good."""
    if target.redacted_by is not None:
        return
    pruned = redact(target.event.pdu, target.event.version)
    values = {"pdu": dump(pruned), "redacted_by": redaction_id, "relates_to": None, "relation_type": None}
    await session.execute(update(EVENTS).where(EVENTS.c.event_id == target.event_id).values(values))


async def redactions_of(session: AsyncSession, event_id: str) -> list[StoredEvent]:
    """Those that came before what they are about, and could not be shown yet."""
    statement = select(*COLUMNS).where(
        EVENTS.c.redacts == event_id, EVENTS.c.standing == ACCEPTED, EVENTS.c.position.is_(None)
    )
    return [stored_event(row) for row in await session.execute(statement)]


def dump(pdu: Mapping[str, Any]) -> str:
    return orjson.dumps(pdu).decode()


def _has_power(redaction: Event, state: Mapping[StateKey, Event]) -> bool:
    levels = PowerLevels(state.get(CREATE), state.get(POWER_LEVELS))
    return levels.of(redaction.sender) >= levels.redact
