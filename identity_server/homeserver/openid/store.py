from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.openid.models import OpenIdToken


async def add_token(session: AsyncSession, token_hash: bytes, user_id: str, *, expires_ts: int) -> None:
    session.add(OpenIdToken(token_hash=token_hash, user_id=user_id, expires_ts=expires_ts))


async def token_holder(session: AsyncSession, token_hash: bytes, *, now_ms: int) -> str | None:
    """The user who asked for the token, unless it has expired."""
    live = (OpenIdToken.token_hash == token_hash) & (OpenIdToken.expires_ts > now_ms)
    user_id: str | None = await session.scalar(select(OpenIdToken.user_id).where(live))
    return user_id


async def purge_expired_tokens(session: AsyncSession, *, now_ms: int) -> None:
    await session.execute(delete(OpenIdToken).where(OpenIdToken.expires_ts <= now_ms))
