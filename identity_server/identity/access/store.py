from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.access.models import AccessToken
from identity_server.runtime.fast_reads import FastReads


async def add_token(
    session: AsyncSession, token_hash: bytes, user_id: str, *, now_ms: int, expires_ts: int | None
) -> None:
    session.add(AccessToken(token_hash=token_hash, user_id=user_id, created_ts=now_ms, expires_ts=expires_ts))


async def token_holder(reads: FastReads, token_hash: bytes, *, now_ms: int) -> str | None:
    """The user ID that the token stands for, unless it has expired. Every request pays for this."""
    user_id: str | None = await reads.value(
        "SELECT user_id FROM access_tokens WHERE token_hash = $1 AND (expires_ts IS NULL OR expires_ts > $2)",
        token_hash,
        now_ms,
    )
    return user_id


async def remove_token(session: AsyncSession, token_hash: bytes) -> None:
    await session.execute(delete(AccessToken).where(AccessToken.token_hash == token_hash))


async def purge_expired_tokens(session: AsyncSession, *, now_ms: int) -> None:
    await session.execute(delete(AccessToken).where(AccessToken.expires_ts <= now_ms))
