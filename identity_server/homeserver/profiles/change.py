"""Changing one's profile, here and in the rooms that one is in."""

from typing import Any

from identity_server.homeserver.profiles import store
from identity_server.homeserver.profiles.fields import AVATAR_URL, DISPLAYNAME, check_key, set_field
from identity_server.homeserver.profiles.spread import Spreading
from identity_server.runtime.tasks import Tasks

_IN_ROOMS = (DISPLAYNAME, AVATAR_URL)

REMOVED: Any = object()
"""In place of a value: the field is not to be there."""


async def change_field(
    spreading: Spreading, tasks: Tasks, user_id: str, field: str, value: Any, *, now_ms: int
) -> None:
    """Several transactions, one for each room that is told. Raises as ``set_field``."""
    check_key(field)
    async with spreading.database.transaction() as session:
        if value is REMOVED:
            await store.remove_field(session, user_id, field)
        else:
            await set_field(session, user_id, field, value)
        if field in _IN_ROOMS:
            await spreading.plan(session, tasks, user_id, now_ms=now_ms)
    if field in _IN_ROOMS:
        await spreading.at_once(user_id)
