"""What another server sends by itself (Server-Server API, "Transactions").

Rooms are served side by side, so that what is wrong with one keeps no other waiting; the events of one room come one
after the other. Each room takes transactions of its own, and the answer is kept for when the same is sent again.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import orjson
import structlog
from sqlalchemy import delete
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.format import InvalidEvent
from identity_server.homeserver.events.hashing import event_id
from identity_server.homeserver.events.versions import VERSIONS
from identity_server.homeserver.federation.acl import check_acl
from identity_server.homeserver.federation.edus import Edus
from identity_server.homeserver.federation.later import Later
from identity_server.homeserver.federation.models import ReceivedTransaction
from identity_server.homeserver.federation.outbox import MAX_EDUS, MAX_PDUS
from identity_server.homeserver.federation.outcomes import Judged, Passing
from identity_server.homeserver.federation.receive import Receiver
from identity_server.homeserver.federation.withdrawn import take_outside
from identity_server.homeserver.timeline.store import find_room
from identity_server.matrix.canonical_json import NotCanonical
from identity_server.matrix.errors import BadJson, Forbidden, InvalidParam, MatrixError, NotFound
from identity_server.matrix.single_flight import SingleFlight
from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database, insert, savepoint
from identity_server.runtime.dependencies import opened

log = structlog.get_logger(__name__)

_REMEMBER_MS = 86_400_000
_LONGEST_ID = 255


@dataclass(frozen=True)
class Transactions:
    """``edus``: who is told of an incoming EDU, by its type."""

    database: Database
    clock: Clock
    receiver: Receiver
    edus: Edus
    later: Later
    _flights: SingleFlight[tuple[str, str], dict[str, Any]] = field(default_factory=SingleFlight)

    async def take(self, origin: str, transaction_id: str, content: Mapping[str, Any]) -> dict[str, Any]:
        """The answer: what was wrong with each PDU. Raises ``BadJson`` and ``InvalidParam`` for what is none."""
        if len(transaction_id) > _LONGEST_ID or "\0" in transaction_id:
            raise InvalidParam("The transaction ID is too long")
        pdus, edus = _listed(content, "pdus", MAX_PDUS), _listed(content, "edus", MAX_EDUS)
        return await self._flights.run(
            (origin, transaction_id), lambda: self._take_once(origin, transaction_id, pdus, edus)
        )

    async def _take_once(
        self, origin: str, transaction_id: str, pdus: Sequence[Any], edus: Sequence[Any]
    ) -> dict[str, Any]:
        async with self.database.reading() as session:
            before = await session.get(ReceivedTransaction, (origin, transaction_id))
        if before is not None and before.answer:
            answer: dict[str, Any] = orjson.loads(before.answer)
            return answer
        # First what is quick: events may have to wait for what came before them.
        if before is None and edus:
            await self._take_edus(origin, transaction_id, edus)
        answer = {"pdus": await self._take_pdus(origin, pdus)}
        async with self.database.transaction() as session:
            await self._remember(session, origin, transaction_id, answer)
        return answer

    async def _take_edus(self, origin: str, transaction_id: str, edus: Sequence[Any]) -> None:
        """All of them, and that they need not be taken again."""
        async with self.database.transaction() as session:
            for edu in edus:
                await self._take_edu(session, origin, edu)
            await self._remember(session, origin, transaction_id, None)

    async def _remember(
        self, session: AsyncSession, origin: str, transaction_id: str, answer: Mapping[str, Any] | None
    ) -> None:
        now_ms = self.clock.now_ms()
        written = orjson.dumps(answer).decode() if answer is not None else ""
        old = ReceivedTransaction.received_ts < now_ms - _REMEMBER_MS
        await session.execute(delete(ReceivedTransaction).where(old))
        row = {"origin": origin, "transaction_id": transaction_id, "answer": written, "received_ts": now_ms}
        statement = insert(session, ReceivedTransaction).values(row)
        await session.execute(
            statement.on_conflict_do_update(index_elements=["origin", "transaction_id"], set_={"answer": written})
        )

    async def _take_pdus(self, origin: str, pdus: Sequence[Any]) -> dict[str, dict[str, Any]]:
        by_room: dict[str, list[Any]] = defaultdict(list)
        for pdu in pdus:
            if (room_id := _room_id(pdu)) is not None:
                by_room[room_id].append(pdu)
        results: dict[str, dict[str, Any]] = {}
        taken = await asyncio.gather(
            *(self._take_room(origin, room_id, of_room) for room_id, of_room in by_room.items())
        )
        for result in taken:
            results.update(result)
        return results

    async def _take_room(self, origin: str, room_id: str, pdus: Sequence[Any]) -> dict[str, dict[str, Any]]:
        async with self.database.reading() as session:
            room = await find_room(session, room_id)
        named = [(_event_id(pdu, room.version if room else None), pdu) for pdu in pdus]
        try:
            errors = await self._take_or_keep(origin, room_id, pdus)
        except NotFound:
            errors = [await take_outside(self.receiver, origin, room_id, pdu) for pdu in pdus]
        except MatrixError as error:
            return {name: error.body for name, _ in named if name is not None}
        except Exception as error:  # whatever a hostile event brings about, the other rooms go on
            log.error("the events of a room could not be taken", exc_info=error)
            errors = ["The event could not be taken"] * len(pdus)
        return {
            name: {} if error is None or isinstance(error, Judged) else {"error": error}
            for (name, _), error in zip(named, errors, strict=True)
            if name is not None
        }

    async def _take_or_keep(self, origin: str, room_id: str, pdus: Sequence[Any]) -> list[str | None]:
        """What cannot be taken just now is kept for later; then it is ours to see to."""
        errors = await self.receiver.receive(origin, room_id, pdus, patient=True)
        for number, error in enumerate(errors):
            if isinstance(error, Passing) and self.later.put(origin, room_id, pdus[number]):
                errors[number] = None
        return errors

    async def _take_edu(self, session: AsyncSession, origin: str, edu: Any) -> None:
        if not isinstance(edu, dict) or not isinstance(edu.get("content"), dict):
            return
        edu_type = edu.get("edu_type", edu.get("type"))
        handle = self.edus.get(edu_type) if isinstance(edu_type, str) else None
        if handle is None:
            return
        try:
            async with savepoint(session):
                content = await _of_rooms_that_permit(session, origin, str(edu_type), edu["content"])
                await handle(session, origin, content)
        except MatrixError as error:
            log.info("edu refused", edu_type=edu_type, error=error.errcode)
        except (SQLAlchemyError, ValueError, TypeError, KeyError, AttributeError) as error:
            log.error("an edu could not be taken", edu_type=edu_type, exc_info=error)


async def _of_rooms_that_permit(
    session: AsyncSession, origin: str, edu_type: str, content: Mapping[str, Any]
) -> Mapping[str, Any]:
    """What an EDU says of rooms that do not keep ``origin`` out. Raises ``Forbidden`` if that is nothing."""
    if edu_type == "m.typing" and (room_id := _room_id(content)) is not None:
        await check_acl(session, room_id, origin)
    if edu_type == "m.receipt":
        permitted = {}
        for room_id, receipts in content.items():
            with contextlib.suppress(Forbidden):
                if "\0" not in room_id:
                    await check_acl(session, room_id, origin)
                    permitted[room_id] = receipts
        return permitted
    return content


OpenTransactions = Annotated[Transactions, opened("transactions")]


def _listed(content: Mapping[str, Any], name: str, most: int) -> list[Any]:
    listed = content.get(name, [])
    if not isinstance(listed, list):
        raise BadJson(f"{name} must be a list")
    if len(listed) > most:
        raise InvalidParam(f"A transaction holds at most {most} {name}")
    return listed


def _room_id(pdu: Any) -> str | None:
    room_id = pdu.get("room_id") if isinstance(pdu, dict) else None
    if not isinstance(room_id, str) or "\0" in room_id or len(room_id) > _LONGEST_ID:
        return None
    return room_id


def _event_id(pdu: Any, version: str | None) -> str | None:
    """What the answer calls the PDU; where the room is not known, by the rules that most rooms have."""
    known = VERSIONS.get(version or "11")
    if known is None or not isinstance(pdu, dict):
        return None
    try:
        return event_id(pdu, known)
    except (NotCanonical, InvalidEvent, AttributeError, TypeError):
        return None
