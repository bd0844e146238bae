from typing import Any

import orjson
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.profiles.models import ProfileField
from identity_server.runtime.database import insert


async def profile_of(session: AsyncSession, user_id: str) -> dict[str, Any]:
    """The whole profile of a user of ours, by field; empty for whoever has none."""
    statement = select(ProfileField.field, ProfileField.value).where(ProfileField.user_id == user_id)
    return {row.field: orjson.loads(row.value) for row in await session.execute(statement)}


async def set_field(session: AsyncSession, user_id: str, field: str, value: Any) -> None:
    row = {"user_id": user_id, "field": field, "value": orjson.dumps(value).decode()}
    statement = insert(session, ProfileField).values(row)
    await session.execute(
        statement.on_conflict_do_update(index_elements=["user_id", "field"], set_={"value": statement.excluded.value})
    )


async def remove_field(session: AsyncSession, user_id: str, field: str) -> None:
    this = (ProfileField.user_id == user_id) & (ProfileField.field == field)
    await session.execute(delete(ProfileField).where(this))


async def erase(session: AsyncSession, user_id: str) -> None:
    await session.execute(delete(ProfileField).where(ProfileField.user_id == user_id))
