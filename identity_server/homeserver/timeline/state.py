"""The state at every event, by state groups (Server-Server API, "Room State Resolution").

An event that is no state event shares the group of its parent, so that a room has as many groups as it has had state
events. A group is written as what it adds to another one; after a hundred of those, as a whole.
"""

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from typing import cast

import orjson
from sqlalchemy import Table, bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.event import Event, StateKey, StateMap
from identity_server.homeserver.events.state_resolution import resolve
from identity_server.homeserver.events.versions import RoomVersion
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.models import StateGroup

_GROUPS = cast(Table, StateGroup.__table__)
_HOPS = select(_GROUPS.c.hops).where(_GROUPS.c.state_group == bindparam("group"))
_ADD = _GROUPS.insert().returning(_GROUPS.c.state_group)
_MOST_HOPS = 100
_MOST_ENTRIES = 500_000
_UNCOMMITTED = "uncommitted_state_groups"


class UnknownState(LookupError):
    """The state at an event is asked for that is not known here, or known as an outlier only."""


class StateGroups:
    """Whole states by state group; the ones used last are kept, ``most_entries`` of them at most.

    A group never changes, so what is kept here is true for every process.
    """

    def __init__(self, most_entries: int = _MOST_ENTRIES) -> None:
        self._kept: OrderedDict[int, StateMap] = OrderedDict()
        self._entries = 0
        self._most_entries = most_entries

    async def state_of(self, session: AsyncSession, group: int | None) -> StateMap:
        """The state that the group stands for; None stands for none. It is not to be changed."""
        if group is None:
            return {}
        if group in self._kept:
            self._kept.move_to_end(group)
            return self._kept[group]
        state: dict[StateKey, str] = {}
        for row in await self._path(session, group):
            state.update({(type_, key): event_id for type_, key, event_id in orjson.loads(row)})
        # The number of a group whose transaction is rolled back may be given to another.
        if group not in session.info.get(_UNCOMMITTED, ()):
            self._keep(group, state)
        return state

    async def add(self, session: AsyncSession, room_id: str, base: int | None, changes: StateMap) -> int:
        """The group of the state of ``base`` with ``changes`` made to it."""
        hops = None if base is None else await session.scalar(_HOPS, {"group": base})
        if hops is None or hops >= _MOST_HOPS:
            return await self._insert(session, room_id, None, 0, {**await self.state_of(session, base), **changes})
        return await self._insert(session, room_id, base, hops + 1, changes)

    async def group_of(self, session: AsyncSession, room_id: str, state: StateMap, near: int | None = None) -> int:
        """A group for ``state``: ``near`` itself, what differs from it, or all of it."""
        if near is None:
            return await self._insert(session, room_id, None, 0, state)
        base = await self.state_of(session, near)
        changes = {key: event_id for key, event_id in state.items() if base.get(key) != event_id}
        if len(base) + sum(key not in base for key in changes) > len(state):
            # Something is gone, which changes cannot say.
            return await self._insert(session, room_id, None, 0, state)
        return await self.add(session, room_id, near, changes) if changes else near

    async def _path(self, session: AsyncSession, group: int) -> list[str]:
        """What to lay over one another, the complete group first."""
        this = select(_GROUPS.c.state_group, _GROUPS.c.parent, _GROUPS.c.hops, _GROUPS.c.entries)
        path = this.where(_GROUPS.c.state_group == group).cte("path", recursive=True)
        path = path.union_all(this.join_from(_GROUPS, path, _GROUPS.c.state_group == path.c.parent))
        rows = await session.execute(select(path.c.entries).order_by(path.c.hops))
        return list(rows.scalars())

    async def _insert(
        self, session: AsyncSession, room_id: str, parent: int | None, hops: int, entries: StateMap
    ) -> int:
        values = {
            "room_id": room_id,
            "parent": parent,
            "hops": hops,
            "entries": orjson.dumps([[*key, event_id] for key, event_id in entries.items()]).decode(),
        }
        group: int | None = await session.scalar(_ADD, values)
        assert group is not None
        session.info.setdefault(_UNCOMMITTED, set()).add(group)
        return group

    def _keep(self, group: int, state: StateMap) -> None:
        self._kept[group] = state
        self._entries += len(state)
        while self._entries > self._most_entries and len(self._kept) > 1:
            _, dropped = self._kept.popitem(last=False)
            self._entries -= len(dropped)


class StoredEvents:
    """What state resolution asks for events; each is read once. ``new``: one that is not stored yet."""

    def __init__(self, session: AsyncSession, new: Event | None = None) -> None:
        self._session = session
        self._read: dict[str, Event] = {new.event_id: new} if new else {}

    async def events(self, ids: Collection[str]) -> Mapping[str, Event]:
        unread = [event_id for event_id in ids if event_id not in self._read]
        found = await store.get_events(self._session, unread)
        self._read.update({event_id: stored.event for event_id, stored in found.items()})
        return {event_id: self._read[event_id] for event_id in ids if event_id in self._read}


async def group_after(session: AsyncSession, groups: StateGroups, event_ids: Collection[str]) -> int | None:
    """The state group after all of the events together, forks resolved. Raises ``UnknownState``."""
    event, forks = await _forks(session, event_ids)
    return None if event is None else await resolved_group(session, groups, event.room_id, event.version, forks)


async def _forks(session: AsyncSession, event_ids: Collection[str]) -> tuple[Event | None, list[int]]:
    """One of the events, if there are any, and the state groups after them. Raises ``UnknownState``."""
    found = await store.get_events(session, event_ids)
    if any(event_id not in found or found[event_id].state_group is None for event_id in event_ids):
        raise UnknownState("the state at an event is not known")
    groups = {stored.state_group for stored in found.values() if stored.state_group is not None}
    return next((stored.event for stored in found.values()), None), sorted(groups)


async def resolved_group(
    session: AsyncSession,
    groups: StateGroups,
    room_id: str,
    version: RoomVersion,
    forks: Sequence[int],
    *,
    new: Event | None = None,
) -> int:
    """The group of what the ``forks`` resolve to; ``new``: an event in them that is just being written."""
    first, *others = forks
    states = [await groups.state_of(session, group) for group in forks]
    if not others or all(state == states[0] for state in states):
        return first
    resolved = await resolve(version, states, StoredEvents(session, new))
    return await groups.group_of(session, room_id, resolved, near=forks[-1])
