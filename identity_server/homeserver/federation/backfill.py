"""A room's history from before we came (Server-Server API, "Backfilling and retrieving missing events")."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.auth_rules import NotAllowed
from identity_server.homeserver.events.event import Event
from identity_server.homeserver.events.versions import RoomVersion, room_version
from identity_server.homeserver.federation.checks import in_order
from identity_server.homeserver.federation.outcomes import Dropped, MissingAncestors
from identity_server.homeserver.federation.outliers import keep_outliers
from identity_server.homeserver.federation.place import Ends, around, check_then, group_before
from identity_server.homeserver.federation.receive import Receiver
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.append import append
from identity_server.homeserver.timeline.history import backward_extremities
from identity_server.homeserver.timeline.room import lock_room
from identity_server.homeserver.timeline.stored import ACCEPTED, OUTLIER, REJECTED
from identity_server.matrix.http import Unreachable
from identity_server.matrix.identifiers import domain_of
from identity_server.matrix.json_api import Refused
from identity_server.matrix.single_flight import SingleFlight
from identity_server.runtime.clock import Clock

log = structlog.get_logger(__name__)

_AT_ONCE = 100
_SERVERS_TO_ASK = 4
_PAUSE_MS = 60_000
_MOST_PAUSING = 10_000


@dataclass(frozen=True)
class _Placed:
    """Where an event belongs: upon which state group, and how it stands."""

    event: Event
    before: int | None
    standing: str


@dataclass(frozen=True)
class Backfill:
    receiver: Receiver
    clock: Clock
    _flights: SingleFlight[str, bool] = field(default_factory=SingleFlight)
    _in_vain: OrderedDict[str, int] = field(default_factory=OrderedDict)

    async def backfill(self, room_id: str) -> bool:
        """Whether there is more of the room's past than before, now that another server has been asked for it.

        Not for inside a transaction. Where nothing came, nobody is asked again for a minute.
        """
        if self.clock.now_ms() - self._in_vain.get(room_id, -_PAUSE_MS) < _PAUSE_MS:
            return False
        return await self._flights.run(room_id, lambda: self._backfill(room_id))

    async def _backfill(self, room_id: str) -> bool:
        database, own = self.receiver.database, self.receiver.timeline.server_name
        async with database.reading() as session:
            room = await store.find_room(session, room_id)
            starts = await backward_extremities(session, room_id)
            servers = await store.servers_in_room(session, room_id) - {own}
            likely = [stored.event.sender_server for stored in (await store.get_events(session, starts)).values()]
        if room is None or not starts:
            return False
        version = room_version(room.version)
        asked = [server for server in dict.fromkeys([*likely, _domain(room_id), *sorted(servers)]) if server in servers]
        for server_name in asked[:_SERVERS_TO_ASK]:
            if await self._from(server_name, room_id, version, starts):
                return True
        self._in_vain[room_id] = self.clock.now_ms()
        while len(self._in_vain) > _MOST_PAUSING:
            self._in_vain.popitem(last=False)
        return False

    async def _from(self, server_name: str, room_id: str, version: RoomVersion, starts: list[str]) -> bool:
        receiver = self.receiver
        try:
            found = await receiver.fetch.backfill(server_name, room_id, version, starts, limit=_AT_ONCE)
        except (Unreachable, Refused):
            return False
        async with receiver.database.reading() as session:
            standing = await store.known_events(session, found.keys())
        new = {event_id: event for event_id, event in found.items() if standing.get(event_id, OUTLIER) == OUTLIER}
        await keep_outliers(receiver.database, {event_id: event for event_id, event in new.items() if event.is_state})
        ends = Ends()
        for event in in_order(new):
            try:
                await receiver.have_auth_events(server_name, event)
                await receiver.learn_states(server_name, event, ends, besides=new)
            except Dropped as error:
                log.info("an event of the past cannot be placed", reason=str(error))
                del new[event.event_id]
        return await self._write(room_id, new, ends)

    async def _write(self, room_id: str, events: Mapping[str, Event], ends: Ends) -> bool:
        """The states are found from the earliest on, the positions are given from the latest back."""
        async with self.receiver.database.transaction() as session:
            await lock_room(session, room_id)
            placed: list[_Placed] = []
            for event in in_order(events):
                one = await self._place(session, event, ends)
                if one is not None:
                    placed.append(one)
            for one in reversed(placed):
                await append(
                    session,
                    self.receiver.timeline,
                    one.event,
                    state_before=one.before,
                    standing=one.standing,
                    backfilled=True,
                )
            return bool(placed)

    async def _place(self, session: AsyncSession, event: Event, ends: Ends) -> _Placed | None:
        """Checks 4 and 5; what the room's state is now does not matter to its past."""
        room = await lock_room(session, event.room_id)
        try:
            known = await around(session, event)
            before = await group_before(session, self.receiver.timeline, room, event, ends, known)
            await check_then(session, self.receiver.timeline, event, before, known)
        except MissingAncestors:
            return None
        except NotAllowed:
            if before is not None:
                ends.groups[event.event_id] = before
            return _Placed(event, before, REJECTED)
        after = before
        if event.is_state:
            groups = self.receiver.timeline.groups
            after = await groups.add(session, event.room_id, before, {event.key: event.event_id})
        if after is not None:
            ends.groups[event.event_id] = after
        return _Placed(event, before, ACCEPTED)


def _domain(room_id: str) -> str | None:
    try:
        return domain_of(room_id)
    except ValueError:
        return None
