from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.threepids.models import PendingThreepidInvite, ThreepidBinding
from identity_server.runtime.database import insert_missing


async def add_bindings(session: AsyncSession, rows: Iterable[Mapping[str, Any]]) -> None:
    await insert_missing(session, ThreepidBinding, rows)


async def add_pending_invites(session: AsyncSession, rows: Iterable[Mapping[str, Any]]) -> None:
    await insert_missing(session, PendingThreepidInvite, rows)


async def bindings_of(session: AsyncSession, user_id: str) -> list[ThreepidBinding]:
    statement = select(ThreepidBinding).where(ThreepidBinding.user_id == user_id).order_by(ThreepidBinding.told_ts)
    return list(await session.scalars(statement))


async def pending_invites_of(session: AsyncSession, user_id: str) -> list[PendingThreepidInvite]:
    statement = select(PendingThreepidInvite).where(PendingThreepidInvite.user_id == user_id)
    return list(await session.scalars(statement.order_by(PendingThreepidInvite.told_ts)))
