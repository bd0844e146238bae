from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import and_, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.associations.merge import Claim, Precedence
from identity_server.identity.associations.models import CurrentAssociation
from identity_server.identity.associations.statement import Statement
from identity_server.identity.associations.store import rows_about
from identity_server.identity.replication.models import ENDS_SOON, Peer, PeerKey, PeerStatement, SetAside
from identity_server.matrix.signing import VerifyKey
from identity_server.matrix.threepid import Threepid
from identity_server.runtime.bulk import insert_rows
from identity_server.runtime.database import in_chunks, insert_missing


async def peers(session: AsyncSession) -> list[Peer]:
    return list(await session.scalars(select(Peer).order_by(Peer.name)))


async def find_peer(session: AsyncSession, name: str, *, for_update: bool = False) -> Peer | None:
    statement = select(Peer).where(Peer.name == name).execution_options(populate_existing=True)
    return await session.scalar(statement.with_for_update() if for_update else statement)


async def is_trusted(session: AsyncSession, name: str, *, now_ms: int) -> bool:
    """Whether ``name`` is to be sent what this transaction sees: it may be paused or removed at any time."""
    peer = await find_peer(session, name)
    return peer is not None and peer.is_trusted(now_ms)


async def change_peer(session: AsyncSession, name: str, **values: Any) -> bool:
    """False if there is no such peer."""
    rows = await session.execute(update(Peer).where(Peer.name == name).values(**values).returning(Peer.name))
    return rows.first() is not None


async def remove_peer(session: AsyncSession, name: str) -> None:
    await session.execute(delete(SetAside).where(SetAside.peer == name))
    await session.execute(delete(PeerKey).where(PeerKey.peer == name))
    await session.execute(delete(Peer).where(Peer.name == name))


async def peer_keys(session: AsyncSession, name: str) -> list[VerifyKey]:
    rows = await session.execute(select(PeerKey.key_id, PeerKey.public_key).where(PeerKey.peer == name))
    return [VerifyKey.from_base64(*row) for row in rows]


async def add_peer_keys(session: AsyncSession, name: str, keys: Iterable[VerifyKey], *, now_ms: int) -> None:
    rows = [{"peer": name, "key_id": key.key_id, "public_key": key.base64, "added_ts": now_ms} for key in keys]
    await insert_missing(session, PeerKey, rows)


async def add_statements(session: AsyncSession, origin: str, numbered: Sequence[tuple[int, Statement]]) -> None:
    await insert_rows(
        session,
        PeerStatement,
        ("origin", "origin_id", "medium", "address", "user_id", "ts", "not_before", "not_after"),
        [
            (origin, position, *said.threepid, said.user_id, said.ts, said.not_before, said.not_after)
            for position, said in numbered
        ],
    )


async def known_ids(session: AsyncSession, origin: str, ids: Sequence[int]) -> set[int]:
    """Those of ``ids`` under which ``origin`` has stated something before, taken or set aside."""
    taken, aside = PeerStatement, SetAside
    known: set[int] = set()
    for some in in_chunks(ids):
        known.update(
            await session.scalars(select(taken.origin_id).where(taken.origin == origin, taken.origin_id.in_(some)))
        )
        known.update(
            await session.scalars(
                select(aside.position).where(aside.peer == origin, ~aside.of_ours, aside.position.in_(some))
            )
        )
    return known


async def set_aside(
    session: AsyncSession, peer: str, reasons: Iterable[tuple[int, str]], *, of_ours: bool, now_ms: int
) -> None:
    rows = [
        {"peer": peer, "of_ours": of_ours, "position": position, "reason": reason, "set_aside_ts": now_ms}
        for position, reason in reasons
    ]
    await insert_missing(session, SetAside, rows)


async def all_set_aside(session: AsyncSession, peer: str, limit: int = 100) -> list[SetAside]:
    rows = await session.scalars(
        select(SetAside).where(SetAside.peer == peer).order_by(SetAside.set_aside_ts.desc()).limit(limit)
    )
    return list(rows)


async def count_statements(session: AsyncSession, origin: str) -> int:
    statement = select(func.count()).select_from(PeerStatement).where(PeerStatement.origin == origin)
    return await session.scalar(statement) or 0


async def claims(session: AsyncSession, threepids: Sequence[Threepid], *, without: str) -> list[Claim]:
    """Everything that peers have stated about ``threepids``, but for one of them."""
    return [
        Claim(Threepid(row.medium, row.address), Precedence(row.ts, row.origin, row.origin_id), row.user_id)
        for row in await rows_about(session, PeerStatement, threepids, without=without)
    ]


async def first_statements(session: AsyncSession, origin: str, limit: int) -> list[tuple[int, Threepid]]:
    """Positions of what ``origin`` stated, lowest first, and about which addresses it is."""
    row = PeerStatement
    rows = await session.execute(
        select(row.origin_id, row.medium, row.address).where(row.origin == origin).order_by(row.origin_id).limit(limit)
    )
    return [(position, Threepid(medium, address)) for position, medium, address in rows]


async def ended(session: AsyncSession, *, now_ms: int, limit: int) -> list[Threepid]:
    """Addresses that belong to somebody by a statement whose time is over."""
    row, held = PeerStatement, CurrentAssociation
    holds = and_(
        held.medium == row.medium,
        held.address == row.address,
        held.origin == row.origin,
        held.origin_id == row.origin_id,
        held.user_id.is_not(None),
    )
    rows = await session.execute(
        select(row.medium, row.address).join(held, holds).where(ENDS_SOON, row.not_after <= now_ms).limit(limit)
    )
    return [Threepid(medium, address) for medium, address in rows]


async def drop_statements(session: AsyncSession, origin: str, *, up_to: int | None = None) -> None:
    """Forget what ``origin`` stated, all of it or up to a position."""
    statement = delete(PeerStatement).where(PeerStatement.origin == origin)
    await session.execute(statement if up_to is None else statement.where(PeerStatement.origin_id <= up_to))
