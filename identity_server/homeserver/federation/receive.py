"""An event of another server on its way into a room (Server-Server API, "Checks performed on receipt of a PDU").

The network is asked outside of transactions, what it answers is kept, and then the event is tried again. So this
takes several transactions; each leaves what is true on its own.
"""

import asyncio
import contextlib
from collections.abc import Collection, Container, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

import structlog
from sqlalchemy.exc import SQLAlchemyError

from identity_server.homeserver.events.auth_rules import NotAllowed
from identity_server.homeserver.events.event import Event
from identity_server.homeserver.events.format import InvalidEvent
from identity_server.homeserver.events.versions import RoomVersion
from identity_server.homeserver.federation.acl import version_of_our_room
from identity_server.homeserver.federation.checks import BadSignature, check_event, in_order
from identity_server.homeserver.federation.fetch import Fetch
from identity_server.homeserver.federation.gap import collect_gap
from identity_server.homeserver.federation.outcomes import (
    Dropped,
    Judged,
    MissingAncestors,
    NotNow,
    Passing,
    is_passing,
)
from identity_server.homeserver.federation.outliers import check_by_auth_events, cited_ids, keep_outliers
from identity_server.homeserver.federation.place import Ends, place, unknown_of
from identity_server.homeserver.federation.state_at import learn_state_after
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.timeline import Timeline
from identity_server.matrix.errors import MatrixError
from identity_server.matrix.http import Unreachable
from identity_server.matrix.json_api import Refused
from identity_server.runtime.database import Database, savepoint

log = structlog.get_logger(__name__)

# So many are written in one transaction: each alone would wait for the disk.
_LOT = 20
_OTHERS_TO_ASK = 3
_ENTERING_SECONDS = 20
# For each server that sends: one that answers slowly keeps only itself waiting.
_GAPS_AT_ONCE = 4


@dataclass(frozen=True)
class Receiver:
    database: Database
    timeline: Timeline
    fetch: Fetch
    entering: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)
    """Held by whoever is just coming into a room: what is sent of it waits until then."""
    _gaps: WeakValueDictionary[str, asyncio.Semaphore] = field(default_factory=WeakValueDictionary)

    async def receive(
        self, origin: str, room_id: str, pdus: Sequence[Any], *, patient: bool = False
    ) -> list[str | None]:
        """Take the events that ``origin`` sent of one room; for each, what was wrong with it.

        ``patient``: what a server does not answer just now is worth waiting for; then it says ``Passing``.
        Raises ``NotFound`` if we are not in the room, ``Forbidden`` if the room keeps ``origin`` out.
        """
        version = await self._version(origin, room_id)
        errors: list[str | None] = []
        lot: list[Event] = []
        for pdu in pdus:
            try:
                event = await check_event(self.fetch.key_ring, pdu, version)  # 1, 2, 3
                if event.room_id != room_id:
                    raise Dropped("The event is of another room")
                lot.append(event)
                errors.append(None)
            except (InvalidEvent, BadSignature, Dropped) as error:
                errors.append(str(error))
        outcomes = {
            event.event_id: error
            for event, error in zip(lot, await self.take(origin, lot, patient=patient), strict=True)
        }
        taken = iter(lot)
        return [error or outcomes[next(taken).event_id] for error in errors]

    async def take(
        self, origin: str, events: Sequence[Event], *, relayed: bool = False, patient: bool = False
    ) -> list[str | None]:
        """Take events that passed checks 1 to 3; for each, why it was not accepted.

        ``relayed``: they come through us into the room, and the others are to hear of them from us.
        """
        errors: dict[str, str | None] = {}
        for start in range(0, len(events), _LOT):
            lot = events[start : start + _LOT]
            waiting = await self._append_those_ready(lot, errors, relayed)
            while waiting:
                event, *others = waiting
                errors[event.event_id] = await self._take_with_ancestors(origin, event, relayed, patient)
                # Often the others waited for the same.
                waiting = await self._append_those_ready(others, errors, relayed) if others else []
        return [errors[event.event_id] for event in events]

    async def _version(self, origin: str, room_id: str) -> RoomVersion:
        entering = self.entering.get(room_id)
        if entering is not None:
            # Not for ever: the origin's other rooms wait for this answer too.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ENTERING_SECONDS), entering:
                    pass
        async with self.database.reading() as session:
            return await version_of_our_room(session, room_id, origin, self.timeline.server_name)

    async def _append_those_ready(
        self, events: Sequence[Event], errors: dict[str, str | None], relayed: bool
    ) -> list[Event]:
        """Append the events for which all is known; the others."""
        waiting: list[Event] = []
        async with self.database.transaction() as session:
            for event in events:
                try:
                    # What one event does to the database must not harm the next.
                    async with savepoint(session):
                        errors[event.event_id] = await place(session, self.timeline, event, Ends(), relayed=relayed)
                except MissingAncestors:
                    waiting.append(event)
                except (MatrixError, SQLAlchemyError) as error:
                    log.warning("event could not be taken", exc_info=error)
                    errors[event.event_id] = "The event could not be taken"
        return waiting

    async def _take_with_ancestors(self, origin: str, event: Event, relayed: bool, patient: bool) -> str | None:
        gaps = self._gaps.setdefault(origin, asyncio.Semaphore(_GAPS_AT_ONCE))
        async with gaps:
            try:
                if await self._has_auth_events(origin, event):
                    judged: dict[str, str | None] = {}
                    if not await self._append_those_ready([event], judged, relayed):
                        return judged[event.event_id]
                    if (refused := await self._rejected_at_once(event)) is not None:
                        return refused
                gap = await collect_gap(self.database, self.fetch, origin, event, patient=patient)
                if not gap.is_told:
                    # It might become the only end of the room, and its state be whatever its server says it was.
                    raise Dropped("The server does not tell of the events before it")
                for earlier in in_order(gap.events):
                    with contextlib.suppress(Dropped):  # the next may do without
                        await self._take_upon_told_state(origin, earlier)
                return await self._take_upon_told_state(origin, event, relayed, besides=gap.events)
            except NotNow as error:
                return Passing(error) if patient else str(error)
            except Dropped as error:
                return str(error)

    async def _take_upon_told_state(
        self, origin: str, event: Event, relayed: bool = False, *, besides: Container[str] = ()
    ) -> str | None:
        """Take the event even if we do not know its parents: then by the state that others say was after them, but for
        those ``besides`` it. Raises ``Dropped``.
        """
        ends = Ends()
        for _ in range(2):
            try:
                async with self.database.transaction() as session:
                    return await place(session, self.timeline, event, ends, relayed=relayed)
            except MissingAncestors:
                # In this order: the state often brings them along.
                await self.learn_states(origin, event, ends, besides=besides)
                await self.have_auth_events(origin, event)
            except (MatrixError, SQLAlchemyError) as error:
                log.warning("event could not be taken", exc_info=error)
                break
        return "The event could not be taken"

    async def _has_auth_events(self, origin: str, event: Event) -> bool:
        """If not, they may be among what came before the event. Raises ``NotNow``."""
        try:
            await self.have_auth_events(origin, event)
        except NotNow:
            raise
        except Dropped:
            return False
        return True

    async def have_auth_events(self, origin: str, event: Event) -> None:
        """Raises ``Dropped`` if they are not to be had."""
        if not await self._unknown(cited_ids(event)):
            return
        failure: type[Dropped] = Dropped
        try:
            chain = await self.fetch.auth_chain(origin, event.room_id, event.version, event.event_id)
            await keep_outliers(self.database, chain)
        except (Unreachable, Refused) as error:
            failure = NotNow if is_passing(error) else Dropped
        missing = await self._unknown(cited_ids(event))
        for _ in range(_OTHERS_TO_ASK):
            if not missing:
                return
            # One by one, and what those rest on in turn.
            found = await self.fetch.events(origin, missing, event.room_id, event.version)
            wider = await self._unknown({cited for one in found.values() for cited in cited_ids(one)} - found.keys())
            found |= await self.fetch.events(origin, wider, event.room_id, event.version)
            await keep_outliers(self.database, found)
            missing = await self._unknown(cited_ids(event))
        if missing:
            raise failure("The event's auth events could not be had")

    async def _unknown(self, event_ids: Collection[str]) -> set[str]:
        async with self.database.reading() as session:
            return await unknown_of(session, event_ids)

    async def _rejected_at_once(self, event: Event) -> str | None:
        """What check 4 rejects is not worth asking further for."""
        async with self.database.reading() as session:
            cited = await store.get_events(session, cited_ids(event))
        try:
            check_by_auth_events(event, {event_id: stored.event for event_id, stored in cited.items()})
        except NotAllowed as error:
            await keep_outliers(self.database, {event.event_id: event})
            return Judged(error)
        except LookupError:
            return "The event's auth events could not be had"
        return None

    async def learn_states(self, origin: str, event: Event, ends: Ends, *, besides: Container[str] = ()) -> None:
        """Have the states after the event's parents, but for those ``besides`` it. Raises ``Dropped``."""
        async with self.database.reading() as session:
            parents = await store.get_events(session, event.prev_events)
            servers = await store.servers_in_room(session, event.room_id)
        others = sorted(servers - {origin, self.timeline.server_name})[:_OTHERS_TO_ASK]
        for parent in event.prev_events:
            if parent in besides or parent in ends.groups:
                continue
            if parent in parents and parents[parent].state_group is not None:
                continue
            ends.groups[parent] = await self._learn_state(event, parent, [origin, *others])

    async def _learn_state(self, event: Event, parent: str, servers: Iterable[str]) -> int:
        failure: type[Dropped] = Dropped
        for server_name in servers:
            try:
                return await learn_state_after(
                    self.database, self.timeline, self.fetch, server_name, event.room_id, event.version, parent
                )
            except (Unreachable, Refused) as error:
                failure = NotNow if is_passing(error) else failure
        raise failure("The state before the event could not be had")
