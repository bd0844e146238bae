"""What /sync tells of encryption ("Extensions to /sync" of Send-to-Device messaging and End-to-End Encryption)."""

from collections.abc import Collection
from typing import Any

from sqlalchemy import ScalarSelect
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.encryption.device_lists import store as device_lists
from identity_server.homeserver.encryption.device_lists.seen import came_and_went
from identity_server.homeserver.encryption.one_time_keys import store as one_time_keys
from identity_server.homeserver.encryption.to_device import store as to_device
from identity_server.homeserver.timeline import sharing

USUAL_ALGORITHM = "signed_curve25519"


async def to_device_messages(
    session: AsyncSession, user_id: str, device_id: str, since: int, upto: int, limit: int
) -> tuple[list[dict[str, Any]], int]:
    """At most ``limit`` events of ``since`` < position <= ``upto``, oldest first, and the position up to which they
    are all: ``upto``, unless there are more."""
    found = await to_device.messages(session, user_id, device_id, since, upto, limit)
    return [event for _, event in found], found[-1][0] if len(found) == limit else upto


async def forget_delivered(session: AsyncSession, user_id: str, device_id: str, upto: int) -> None:
    """The device has seen what was sent to it up to that position."""
    await to_device.forget_messages(session, user_id, device_id, upto)


async def device_list_changes(
    session: AsyncSession, user_id: str, since: int, upto: int, *, joined_rooms: Collection[str]
) -> tuple[set[str], set[str]]:
    """``changed`` and ``left`` of ``device_lists`` for ``since`` < position <= ``upto``.

    ``joined_rooms``: where the user is joined at ``upto``.
    """
    if since >= upto:
        return set(), set()
    everywhere, for_user = await device_lists.changed_users(session, since, upto, viewer=user_id)
    changed = await sharing.joined_to_any(session, everywhere, joined_rooms) | (everywhere & {user_id}) | for_user
    came, left = await came_and_went(session, user_id, since, upto, joined_rooms=joined_rooms)
    return (changed | came) - left, left


async def key_counts(session: AsyncSession, user_id: str, device_id: str) -> tuple[dict[str, int], list[str]]:
    """``device_one_time_keys_count`` and ``device_unused_fallback_key_types``."""
    # Clients upload new keys once they are told of a zero; some take a missing count for "unknown".
    counts, fallback = await one_time_keys.count_unused(session, user_id, device_id)
    return {USUAL_ALGORITHM: 0, **counts}, fallback


def newest_positions(user_id: Any, device_id: Any) -> tuple[ScalarSelect[Any], ScalarSelect[Any]]:
    """Of the messages to the device, and of what changed of anybody's device list: parts of a larger statement, whose
    parameters the arguments may be."""
    return to_device.newest_position(user_id, device_id), device_lists.newest_position()
