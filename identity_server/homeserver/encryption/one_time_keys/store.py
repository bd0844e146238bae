from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import bindparam, column, delete, func, literal, select, union_all, update, values
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.encryption.models import FallbackKey, OneTimeKey
from identity_server.runtime.database import Key, in_chunks, insert, insert_missing


class Wanted(NamedTuple):
    """A key of some algorithm, for some device."""

    user_id: str
    device_id: str
    algorithm: str


class Given(NamedTuple):
    """A key that was given out; ``key`` is JSON."""

    wanted: Wanted
    key_id: str
    key: str


async def add_one_time_keys(
    session: AsyncSession, user_id: str, device_id: str, keys: Mapping[tuple[str, str], str]
) -> set[tuple[str, str]]:
    """Store ``keys``, by algorithm and key ID. Returns which were stored before, with another value; those stay."""
    rows = [
        {"user_id": user_id, "device_id": device_id, "algorithm": algorithm, "key_id": key_id, "key": key}
        for (algorithm, key_id), key in keys.items()
    ]
    await insert_missing(session, OneTimeKey, rows)
    conflicts: set[tuple[str, str]] = set()
    for chunk in in_chunks([key_id for _, key_id in keys]):
        statement = select(OneTimeKey.algorithm, OneTimeKey.key_id, OneTimeKey.key).where(
            OneTimeKey.user_id == user_id, OneTimeKey.device_id == device_id, OneTimeKey.key_id.in_(chunk)
        )
        for algorithm, key_id, key in await session.execute(statement):
            if keys.get((algorithm, key_id), key) != key:
                conflicts.add((algorithm, key_id))
    return conflicts


async def take_one_time_keys(session: AsyncSession, wanted: Sequence[Wanted]) -> list[Given]:
    """One key for each of ``wanted``, as far as there are any; nobody else is ever given the same."""
    given: list[Given] = []
    for chunk in in_chunks(wanted, 300):
        asked = values(column("user_id", Key), column("device_id", Key), column("algorithm", Key), name="wanted").data(
            [tuple(each) for each in chunk]
        )
        asked_for = asked.cte()
        first = (
            select(OneTimeKey.upload_order)
            .where(
                OneTimeKey.user_id == asked_for.c.user_id,
                OneTimeKey.device_id == asked_for.c.device_id,
                OneTimeKey.algorithm == asked_for.c.algorithm,
            )
            .order_by(OneTimeKey.upload_order)
            .limit(1)
            # Of two who want a key at once, the second takes the next one instead of waiting for the first.
            .with_for_update(skip_locked=True)
            .correlate(asked_for)
            .scalar_subquery()
        )
        found = [order for order in await session.scalars(select(first).select_from(asked_for)) if order is not None]
        if not found:
            continue
        taken = delete(OneTimeKey).where(OneTimeKey.upload_order.in_(found))
        rows = await session.execute(
            taken.returning(
                OneTimeKey.user_id, OneTimeKey.device_id, OneTimeKey.algorithm, OneTimeKey.key_id, OneTimeKey.key
            )
        )
        given += [Given(Wanted(*row[:3]), row.key_id, row.key) for row in rows]
    return given


async def take_fallback_keys(session: AsyncSession, wanted: Sequence[Wanted]) -> list[Given]:
    """The fallback keys for ``wanted``, as far as there are any. From now on they count as used."""
    by_algorithm: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for each in wanted:
        by_algorithm[each.algorithm].append((each.user_id, each.device_id))
    given: list[Given] = []
    for algorithm, devices in by_algorithm.items():
        devices_of: dict[str, list[str]] = defaultdict(list)
        for user_id, device_id in sorted(devices):
            devices_of[user_id].append(device_id)
        for user_id, device_ids in devices_of.items():
            statement = (
                update(FallbackKey)
                .where(FallbackKey.user_id == user_id, FallbackKey.device_id.in_(device_ids))
                .where(FallbackKey.algorithm == algorithm)
                .values(used=True)
                .returning(FallbackKey.device_id, FallbackKey.key_id, FallbackKey.key)
            )
            rows = await session.execute(statement)
            given += [Given(Wanted(user_id, row.device_id, algorithm), row.key_id, row.key) for row in rows]
    return given


async def set_fallback_key(
    session: AsyncSession, user_id: str, device_id: str, algorithm: str, key_id: str, key: str
) -> None:
    """In place of the device's former one for the algorithm. The same again stays as used as it is."""
    row = {
        "user_id": user_id,
        "device_id": device_id,
        "algorithm": algorithm,
        "key_id": key_id,
        "key": key,
        "used": False,
    }
    statement = insert(session, FallbackKey).values(row)
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["user_id", "device_id", "algorithm"],
            set_={"key_id": key_id, "key": key, "used": False},
            where=(FallbackKey.key_id != key_id) | (FallbackKey.key != key),
        )
    )


_OF_DEVICE: dict[str, Any] = {"user_id": bindparam("user_id"), "device_id": bindparam("device_id")}
# Every /sync asks this: made once.
_UNUSED = union_all(
    select(OneTimeKey.algorithm, func.count().label("unclaimed"))
    .filter_by(**_OF_DEVICE)
    .group_by(OneTimeKey.algorithm),
    select(FallbackKey.algorithm, literal(-1)).filter_by(**_OF_DEVICE).where(FallbackKey.used.is_(False)),
)


async def count_unused(session: AsyncSession, user_id: str, device_id: str) -> tuple[dict[str, int], list[str]]:
    """How many one-time keys of each algorithm can still be claimed, and the algorithms of unused fallback keys."""
    rows = (await session.execute(_UNUSED, {"user_id": user_id, "device_id": device_id})).all()
    counts = {algorithm: unclaimed for algorithm, unclaimed in rows if unclaimed >= 0}
    return counts, sorted(algorithm for algorithm, unclaimed in rows if unclaimed < 0)


async def forget_one_time_keys(session: AsyncSession, user_id: str, device_ids: Iterable[str]) -> None:
    devices = list(device_ids)
    for table in (OneTimeKey, FallbackKey):
        await session.execute(delete(table).where(table.user_id == user_id, table.device_id.in_(devices)))
