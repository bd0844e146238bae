from sqlalchemy import delete, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.access.models import AccessToken


async def add_token(
    session: AsyncSession, token_hash: bytes, user_id: str, *, now_ms: int, expires_ts: int | None
) -> None:
    session.add(AccessToken(token_hash=token_hash, user_id=user_id, created_ts=now_ms, expires_ts=expires_ts))


async def token_holder(session: AsyncSession, token_hash: bytes, *, now_ms: int) -> str | None:
    """The user ID that the token stands for, unless it has expired."""
    alive = or_(AccessToken.expires_ts.is_(None), AccessToken.expires_ts > now_ms)
    return await session.scalar(select(AccessToken.user_id).where(AccessToken.token_hash == token_hash).where(alive))


async def remove_token(session: AsyncSession, token_hash: bytes) -> None:
    await session.execute(delete(AccessToken).where(AccessToken.token_hash == token_hash))


async def purge_expired_tokens(session: AsyncSession, *, now_ms: int) -> None:
    await session.execute(delete(AccessToken).where(AccessToken.expires_ts <= now_ms))
