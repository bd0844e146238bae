from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.threepids.models import IdentityBinding, PendingThreepidInvite, ThreepidBinding
from identity_server.matrix.threepid import Threepid
from identity_server.runtime.database import insert, insert_missing

# What identity servers told of bindings


async def add_bindings(session: AsyncSession, rows: Iterable[Mapping[str, Any]]) -> None:
    await insert_missing(session, ThreepidBinding, rows)


async def bindings_of(session: AsyncSession, user_id: str) -> list[ThreepidBinding]:
    statement = select(ThreepidBinding).where(ThreepidBinding.user_id == user_id).order_by(ThreepidBinding.told_ts)
    return list(await session.scalars(statement))


# What was bound through us


async def add_identity_binding(
    session: AsyncSession, user_id: str, threepid: Threepid, id_server: str, *, now_ms: int
) -> None:
    row = {**threepid._asdict(), "user_id": user_id, "id_server": id_server, "bound_ts": now_ms}
    await insert_missing(session, IdentityBinding, [row])


async def identity_bindings_of(session: AsyncSession, user_id: str) -> list[IdentityBinding]:
    statement = select(IdentityBinding).where(IdentityBinding.user_id == user_id).order_by(IdentityBinding.bound_ts)
    return list(await session.scalars(statement))


async def remove_binding(session: AsyncSession, user_id: str, threepid: Threepid, id_server: str | None) -> None:
    """As bound through us at ``id_server``, and as we were told."""
    for table in (IdentityBinding, ThreepidBinding):
        statement = delete(table).where(
            table.user_id == user_id, table.medium == threepid.medium, table.address == threepid.address
        )
        if table is IdentityBinding:
            statement = statement.where(IdentityBinding.id_server == id_server)
        await session.execute(statement)


async def forget_all(session: AsyncSession, user_id: str) -> None:
    """Bindings and invitations."""
    for table in (IdentityBinding, ThreepidBinding, PendingThreepidInvite):
        await session.execute(delete(table).where(table.user_id == user_id))


# Invitations that wait to be taken up


async def add_pending_invite(session: AsyncSession, row: Mapping[str, Any]) -> bool:
    """Whether it is new."""
    statement = insert(session, PendingThreepidInvite).values(dict(row)).on_conflict_do_nothing()
    return await session.scalar(statement.returning(PendingThreepidInvite.digest)) is not None


async def pending_invite(session: AsyncSession, digest: bytes) -> PendingThreepidInvite | None:
    invite: PendingThreepidInvite | None = await session.get(PendingThreepidInvite, digest)
    return invite


async def mark_taken(session: AsyncSession, digest: bytes, *, now_ms: int) -> None:
    this = PendingThreepidInvite.digest == digest
    await session.execute(update(PendingThreepidInvite).where(this).values(taken_ts=now_ms))
