"""One answer of /sync: what there is for the client at one position of the stream."""

from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.account_data.ignored import ignored_users
from identity_server.homeserver.encryption.for_sync import key_counts
from identity_server.homeserver.sync.around import new_account_data, new_device_lists, new_messages, new_presence
from identity_server.homeserver.sync.invited import invited_rooms, knocked_rooms
from identity_server.homeserver.sync.joined import joined_rooms
from identity_server.homeserver.sync.left import left_rooms
from identity_server.homeserver.sync.looking import Look
from identity_server.homeserver.sync.news import newest
from identity_server.homeserver.sync.parts import SyncParts
from identity_server.homeserver.sync.request import SyncRequest
from identity_server.homeserver.sync.standing import standing_of
from identity_server.homeserver.sync.token import SyncToken


@dataclass(frozen=True)
class Answer:
    """``is_news``: whether there is anything but ``next_batch`` and counts in it. ``rooms``: where the user is.

    ``has_messages``: whether messages to the device are kept, delivered or not. ``shows_activity``: whether the user
    did something since, be it on another device.
    """

    body: dict[str, Any]
    token: SyncToken
    is_news: bool
    rooms: frozenset[str]
    has_messages: bool
    shows_activity: bool


async def look(session: AsyncSession, parts: SyncParts, request: SyncRequest, *, now_ms: int) -> Answer:
    """``session``: one in which nothing was read yet."""
    typing = parts.typing.serial
    marks = await newest(session, request.user_id, request.device_id)
    if request.since is None:
        parts.sent_members.forget((request.user_id, request.device_id))
    elif request.told > marks.position:
        # Of a time that a restored database does not know.
        request = replace(request, since=SyncToken(marks.position, typing, marks.position))
    ignored = await ignored_users(session, request.user_id) if marks.account_data else frozenset[str]()
    rooms = await standing_of(session, parts.joined_rooms, request, marks, ignored)
    at = Look(session, parts, request, marks, rooms, ignored, now_ms)
    news, wrote = await _news(at)
    messages, reached = await new_messages(at)
    if messages:
        news["to_device"] = {"events": messages}
    counts, fallback = await key_counts(session, request.user_id, request.device_id)
    token = SyncToken(marks.position, typing, reached)
    body = {
        **news,
        "next_batch": str(token),
        "device_one_time_keys_count": counts,
        "device_unused_fallback_key_types": fallback,
    }
    has_read = request.since is not None and marks.own_receipts > request.told
    shows_activity = has_read or wrote
    return Answer(body, token, bool(news), frozenset(rooms.joined), bool(marks.to_device), shows_activity)


async def _news(at: Look) -> tuple[dict[str, Any], bool]:
    """The sections in which there is something, and whether the user has written something since."""
    data = await new_account_data(at)
    joined = await joined_rooms(at, data.of_rooms)
    in_rooms = {
        "join": joined.answers,
        "invite": await invited_rooms(at.session, at.rooms, at.request.user_id),
        "knock": await knocked_rooms(at.session, at.rooms, at.request.user_id),
        "leave": await left_rooms(at, data.of_rooms),
    }
    presence = await new_presence(at, joined.moved)
    found: dict[str, Any] = {
        "rooms": {name: section for name, section in in_rooms.items() if section},
        "presence": {"events": presence} if presence else {},
        "account_data": {"events": data.of_all} if data.of_all else {},
        "device_lists": await new_device_lists(at, moved=bool(joined.moved)),
    }
    return {name: section for name, section in found.items() if section}, joined.wrote
