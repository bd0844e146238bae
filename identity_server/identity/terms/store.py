from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.terms.models import Acceptance
from identity_server.runtime.database import insert_missing


async def accepted_urls(session: AsyncSession, user_id: str) -> set[str]:
    return set(await session.scalars(select(Acceptance.url).where(Acceptance.user_id == user_id)))


async def add_acceptances(session: AsyncSession, user_id: str, urls: Iterable[str], *, now_ms: int) -> None:
    rows = ({"user_id": user_id, "url": url, "accepted_ts": now_ms} for url in sorted(set(urls)))
    await insert_missing(session, Acceptance, rows)
