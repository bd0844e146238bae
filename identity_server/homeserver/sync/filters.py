"""Filters as they are kept."""

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.sync.models import Filter
from identity_server.runtime.database import insert_missing

_FILTER_ID_LENGTH = 16


async def put_filter(session: AsyncSession, user_id: str, definition: Mapping[str, Any]) -> str:
    """Its ID, the same for the same definition."""
    written = orjson.dumps(definition, option=orjson.OPT_SORT_KEYS)
    filter_id = hashlib.sha256(written).hexdigest()[:_FILTER_ID_LENGTH]
    row = {"user_id": user_id, "filter_id": filter_id, "definition": written.decode()}
    await insert_missing(session, Filter, [row])
    return filter_id


async def filter_definition(session: AsyncSession, user_id: str, filter_id: str) -> dict[str, Any] | None:
    this = (Filter.user_id == user_id) & (Filter.filter_id == filter_id)
    definition: str | None = await session.scalar(select(Filter.definition).where(this))
    return None if definition is None else orjson.loads(definition)
