"""What another server is still to be told: the log of our users' events from its cursor on, and its EDUs."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy import and_, delete, exists, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.federation.edus import Edu
from identity_server.homeserver.federation.models import Destination, OutgoingEdu
from identity_server.homeserver.streams import current_position
from identity_server.homeserver.timeline.models import RoomServer, StoredEventRow
from identity_server.matrix.identifiers import domain_of
from identity_server.runtime.database import in_chunks, insert

# "They can have at most 50 PDUs and 100 EDUs."
MAX_PDUS = 50
MAX_EDUS = 100
# Not all servers take the 3 MB that 50 large events make.
_MAX_BYTES = 800_000

_OUT_OF_THE_ROOM = {"leave", "ban"}


@dataclass(frozen=True)
class Batch:
    """One transaction; ``until``: the cursor once it has arrived."""

    transaction_id: str
    pdus: Sequence[dict[str, Any]]
    edus: Sequence[Edu]
    until: int
    edu_ids: Sequence[int] = field(default=())


async def next_batch(session: AsyncSession, server_name: str) -> Batch | None:
    """What ``server_name`` is to be told next. One that has failed before is the same again."""
    destination = await session.get(Destination, server_name)
    cursor = destination.position if destination else 0
    failed = destination if destination and destination.transaction_id else None
    pdus, until = await _events(session, server_name, cursor, failed.until_position if failed else None)
    edus = await _edus(session, server_name, orjson.loads(failed.edu_ids or "[]") if failed else None)
    if not pdus and not edus:
        return None
    edu_ids = [edu_id for edu_id, _ in edus]
    return Batch(
        (failed and failed.transaction_id) or _transaction_id([position for position, _ in pdus], edu_ids),
        [pdu for _, pdu in pdus],
        [edu for _, edu in edus],
        until,
        edu_ids,
    )


async def note_sent(session: AsyncSession, server_name: str, batch: Batch) -> None:
    await _note(session, server_name, {"position": batch.until})
    for chunk in in_chunks(batch.edu_ids):
        await session.execute(delete(OutgoingEdu).where(OutgoingEdu.edu_id.in_(chunk)))


async def forget_failed(session: AsyncSession, server_name: str) -> None:
    """Nothing is left of the batch that failed: what it held has been replaced meanwhile."""
    destination = await session.get(Destination, server_name)
    if destination is not None:
        until = destination.until_position if destination.until_position is not None else destination.position
        await _note(session, server_name, {"position": max(destination.position, until)})


async def note_failed(
    session: AsyncSession, server_name: str, batch: Batch, *, failures: int, next_try_ts: int
) -> None:
    """Keep the batch's name and bounds: if it did arrive after all, it must not count twice."""
    await _note(
        session,
        server_name,
        {
            "failures": failures,
            "next_try_ts": next_try_ts,
            "transaction_id": batch.transaction_id,
            "until_position": batch.until,
            "edu_ids": orjson.dumps(list(batch.edu_ids)).decode(),
        },
    )


async def _note(session: AsyncSession, server_name: str, changed: dict[str, Any]) -> None:
    fresh = {"failures": 0, "next_try_ts": 0, "transaction_id": None, "until_position": None, "edu_ids": None}
    values = {"position": 0, **fresh, **changed}
    if "position" in changed:
        changed = {**fresh, **changed}
    statement = insert(session, Destination).values(server_name=server_name, **values)
    await session.execute(statement.on_conflict_do_update(index_elements=["server_name"], set_=changed))


async def resting(session: AsyncSession) -> dict[str, tuple[int, int]]:
    """The servers that could not be reached last: how often in a row, and when each is to be tried again."""
    rows = await session.execute(
        select(Destination.server_name, Destination.failures, Destination.next_try_ts).where(Destination.failures > 0)
    )
    return {name: (failures, next_try_ts) for name, failures, next_try_ts in rows}


async def told_of(session: AsyncSession, *, since: int, until: int) -> set[str]:
    """The servers that are to be told of events of ours with ``since`` < position <= ``until``."""
    ours = and_(StoredEventRow.is_ours, StoredEventRow.position > since, StoredEventRow.position <= until)
    rooms = await session.execute(
        select(StoredEventRow.room_id, func.min(StoredEventRow.position)).where(ours).group_by(StoredEventRow.room_id)
    )
    servers: set[str] = set()
    for room_id, position in rooms.all():
        servers.update(
            await session.scalars(
                select(RoomServer.server_name).where(
                    RoomServer.room_id == room_id, or_(RoomServer.until.is_(None), RoomServer.until >= position)
                )
            )
        )
    whom = await session.scalars(
        select(StoredEventRow.state_key).where(ours, StoredEventRow.type == "m.room.member").distinct()
    )
    servers.update(filter(None, map(_server_of, whom)))
    return servers


async def owed_edus(session: AsyncSession, *, since: int) -> tuple[set[str], int]:
    """The servers with EDUs numbered above ``since``, and the highest number."""
    rows = await session.execute(
        select(OutgoingEdu.server_name, func.max(OutgoingEdu.edu_id))
        .where(OutgoingEdu.edu_id > since)
        .group_by(OutgoingEdu.server_name)
    )
    newest: dict[str, int] = {row[0]: row[1] for row in rows}
    return set(newest), max(newest.values(), default=since)


async def known_destinations(session: AsyncSession) -> Collection[str]:
    """Every server that might be owed something."""
    in_rooms = await session.scalars(select(RoomServer.server_name).distinct())
    told_before = await session.scalars(select(Destination.server_name))
    with_edus = await session.scalars(select(OutgoingEdu.server_name).distinct())
    return {*in_rooms, *told_before, *with_edus}


async def settle(session: AsyncSession, position: int, busy: Collection[str]) -> None:
    """Note that all but those who rest or are ``busy`` have been told of everything up to ``position``.

    Otherwise whoever is seldom told something would have a cursor far back, and the way from there is long.
    """
    strangers = select(RoomServer.server_name).where(~exists().where(Destination.server_name == RoomServer.server_name))
    for server_name in {*await session.scalars(strangers.distinct())} - set(busy):
        await _note(session, server_name, {"position": position})
    await session.execute(
        update(Destination)
        .where(Destination.failures == 0, Destination.position < position, Destination.server_name.not_in(list(busy)))
        .values(position=position)
    )


async def _events(
    session: AsyncSession, server_name: str, cursor: int, until: int | None
) -> tuple[list[tuple[int, dict[str, Any]]], int]:
    """Events past ``cursor``, with their positions, and the cursor after them."""
    head = until if until is not None else await current_position(session)
    stays = and_(RoomServer.server_name == server_name, or_(RoomServer.until.is_(None), RoomServer.until > cursor))
    in_room = exists().where(
        stays,
        RoomServer.room_id == StoredEventRow.room_id,
        RoomServer.since < StoredEventRow.position,
        or_(RoomServer.until.is_(None), StoredEventRow.position <= RoomServer.until),
    )
    # Who was invited, or knocked, stands outside, and has to hear that it was in vain.
    about_them = and_(StoredEventRow.type == "m.room.member", StoredEventRow.state_key.endswith(f":{server_name}"))
    rows = await session.execute(
        select(StoredEventRow.position, StoredEventRow.pdu, StoredEventRow.sender, in_room)
        .where(
            StoredEventRow.is_ours,
            StoredEventRow.standing == "accepted",
            StoredEventRow.position > cursor,
            StoredEventRow.position <= head,
            or_(in_room, about_them),
        )
        .order_by(StoredEventRow.position)
        .limit(MAX_PDUS)
    )
    chosen: list[tuple[int, dict[str, Any]]] = []
    seen = size = 0
    covered = cursor
    for position, written, sender, is_in_room in rows.all():
        assert position is not None
        seen += 1
        pdu = orjson.loads(written)
        # What we passed on for them they have.
        if _server_of(sender) != server_name and (
            is_in_room or pdu.get("content", {}).get("membership") in _OUT_OF_THE_ROOM
        ):
            if chosen and size + len(written) > _MAX_BYTES:
                return chosen, covered
            chosen.append((position, pdu))
            size += len(written)
        covered = position
    return chosen, covered if seen == MAX_PDUS else head


async def _edus(session: AsyncSession, server_name: str, edu_ids: list[int] | None) -> list[tuple[int, Edu]]:
    statement = select(OutgoingEdu).where(OutgoingEdu.server_name == server_name).order_by(OutgoingEdu.edu_id)
    if edu_ids is not None:
        statement = statement.where(OutgoingEdu.edu_id.in_(edu_ids))
    chosen: list[tuple[int, Edu]] = []
    size = 0
    for row in await session.scalars(statement.limit(MAX_EDUS)):
        size += len(row.content)
        if chosen and size > _MAX_BYTES:
            break
        chosen.append((row.edu_id, Edu(row.edu_type, orjson.loads(row.content))))
    return chosen


def _transaction_id(positions: Sequence[int], edu_ids: Sequence[int]) -> str:
    """The same for the same batch, also after a restart."""
    return hashlib.sha256(orjson.dumps([list(positions), list(edu_ids)])).hexdigest()[:32]


def _server_of(user_id: str | None) -> str | None:
    try:
        return domain_of(user_id or "")
    except ValueError:
        return None
