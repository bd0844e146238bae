from collections.abc import Sequence

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.media.models import Media
from identity_server.runtime.database import insert


async def find(session: AsyncSession, server_name: str, media_id: str) -> Media | None:
    media: Media | None = await session.get(Media, (server_name, media_id))
    return media


async def add(session: AsyncSession, media: Media) -> None:
    """Unless it is there already."""
    row = {
        "server_name": media.server_name,
        "media_id": media.media_id,
        "created_ts": media.created_ts,
        "uploader": media.uploader,
        "content_type": media.content_type,
        "file_name": media.file_name,
        "size": media.size,
        "expires_ts": media.expires_ts,
    }
    await session.execute(insert(session, Media).values(row).on_conflict_do_nothing())


async def set_content(
    session: AsyncSession,
    server_name: str,
    media_id: str,
    *,
    content_type: str,
    file_name: str | None,
    size: int,
) -> bool:
    """Whether it had no content before."""
    statement = (
        update(Media)
        .where(Media.server_name == server_name, Media.media_id == media_id, Media.size.is_(None))
        .values(content_type=content_type, file_name=file_name, size=size, expires_ts=None)
    )
    return await session.scalar(statement.returning(Media.media_id)) is not None


async def pending_of(session: AsyncSession, user_id: str, *, now_ms: int) -> int:
    """How many media IDs the user has been given that wait for their content."""
    waiting = (Media.uploader == user_id) & Media.size.is_(None) & (Media.expires_ts > now_ms)
    return await session.scalar(select(func.count()).select_from(Media).where(waiting)) or 0


async def bytes_of(session: AsyncSession, user_id: str) -> int:
    """How much the user has uploaded in all."""
    return int(await session.scalar(select(func.sum(Media.size)).where(Media.uploader == user_id)) or 0)


async def remove_expired(session: AsyncSession, *, now_ms: int) -> None:
    """Media IDs that were given out and not used in time."""
    await session.execute(delete(Media).where(Media.expires_ts <= now_ms, Media.size.is_(None)))


async def remote_bytes(session: AsyncSession, our_name: str) -> int:
    statement = select(func.sum(Media.size)).where(Media.server_name != our_name)
    return int(await session.scalar(statement) or 0)


async def oldest_remote(session: AsyncSession, our_name: str, limit: int) -> Sequence[Media]:
    statement = select(Media).where(Media.server_name != our_name).order_by(Media.created_ts).limit(limit)
    return list(await session.scalars(statement))


async def remove(session: AsyncSession, server_name: str, media_id: str) -> None:
    await session.execute(delete(Media).where(Media.server_name == server_name, Media.media_id == media_id))
