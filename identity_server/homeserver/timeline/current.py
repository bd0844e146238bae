"""The current state of a room, as rows: what it is, and since which position of the stream."""

from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import Executable, delete
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.event import StateKey
from identity_server.homeserver.timeline.models import CurrentState, StateChange
from identity_server.homeserver.timeline.state import StateGroups
from identity_server.homeserver.timeline.store import CURRENT
from identity_server.runtime.database import in_chunks, insert_of

Changes = Mapping[StateKey, str | None]
"""By key the event ID that the state holds from now on; None: nothing."""


async def state_changes(session: AsyncSession, groups: StateGroups, before: int | None, after: int | None) -> Changes:
    """What is to be done to the state of one group to make it that of the other."""
    if before == after:
        return {}
    old, new = await groups.state_of(session, before), await groups.state_of(session, after)
    changes: dict[StateKey, str | None] = {key: event_id for key, event_id in new.items() if old.get(key) != event_id}
    changes.update(dict.fromkeys(old.keys() - new.keys()))
    return changes


async def follow_state(session: AsyncSession, room_id: str, changes: Changes, position: int) -> None:
    """Make ``current_state`` and ``state_history`` say so."""
    rows: list[dict[str, Any]] = [
        {"room_id": room_id, "type": type_, "state_key": key, "event_id": event_id}
        for (type_, key), event_id in changes.items()
    ]
    put, note = _statements(session.get_bind().dialect.name)
    for chunk in in_chunks([row for row in rows if row["event_id"] is not None]):
        await session.execute(put, list(chunk))
    for row in rows:
        if row["event_id"] is None:
            this = (CURRENT.c.room_id == room_id) & (CURRENT.c.type == row["type"])
            await session.execute(delete(CURRENT).where(this, CURRENT.c.state_key == row["state_key"]))
    for chunk in in_chunks(rows):
        await session.execute(note, [{**row, "position": position} for row in chunk])


@cache
def _statements(engine: str) -> tuple[Executable, Executable]:
    """Made once: what puts a row into the current state, and what notes a change."""
    put = insert_of(engine, CurrentState)
    put = put.on_conflict_do_update(
        index_elements=["room_id", "type", "state_key"], set_={"event_id": put.excluded.event_id}
    )
    return put, insert_of(engine, StateChange).on_conflict_do_nothing()
