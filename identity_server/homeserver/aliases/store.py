from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.aliases.models import PublishedRoom, RoomAlias
from identity_server.runtime.database import insert, insert_missing


async def add_alias(session: AsyncSession, alias: str, room_id: str, creator: str, *, now_ms: int) -> bool:
    """Whether it was added; it is not if it is taken, be it in this very moment."""
    row = {"alias": alias, "room_id": room_id, "creator": creator, "created_ts": now_ms}
    statement = insert(session, RoomAlias).values(row).on_conflict_do_nothing().returning(RoomAlias.alias)
    return await session.scalar(statement) is not None


async def find_alias(session: AsyncSession, alias: str) -> RoomAlias | None:
    return await session.get(RoomAlias, alias)


async def aliases_of(session: AsyncSession, room_id: str) -> list[str]:
    statement = select(RoomAlias.alias).where(RoomAlias.room_id == room_id).order_by(RoomAlias.alias)
    return list(await session.scalars(statement))


async def remove_alias(session: AsyncSession, alias: str) -> None:
    await session.execute(delete(RoomAlias).where(RoomAlias.alias == alias))


async def move_aliases(session: AsyncSession, old_room_id: str, new_room_id: str) -> None:
    await session.execute(update(RoomAlias).where(RoomAlias.room_id == old_room_id).values(room_id=new_room_id))


async def publish(session: AsyncSession, room_id: str, *, now_ms: int) -> None:
    await insert_missing(session, PublishedRoom, [{"room_id": room_id, "published_ts": now_ms}])


async def withdraw(session: AsyncSession, room_id: str) -> None:
    await session.execute(delete(PublishedRoom).where(PublishedRoom.room_id == room_id))


async def is_published(session: AsyncSession, room_id: str) -> bool:
    return await session.scalar(select(PublishedRoom.room_id).where(PublishedRoom.room_id == room_id)) is not None


async def published_rooms(session: AsyncSession) -> list[str]:
    return list(await session.scalars(select(PublishedRoom.room_id)))
