"""One answer of /sync: what there is for the client at one position of the stream."""

from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.account_data.ignored import ignored_users
from identity_server.homeserver.encryption.for_sync import key_counts
from identity_server.homeserver.sync.around import new_account_data, new_device_lists, new_messages, new_presence
from identity_server.homeserver.sync.invited import invited_rooms, knocked_rooms
from identity_server.homeserver.sync.joined import JoinedRoomsAnswer
from identity_server.homeserver.sync.left import LeftRooms
from identity_server.homeserver.sync.news import Newest, newest
from identity_server.homeserver.sync.parts import SyncParts
from identity_server.homeserver.sync.request import SyncRequest
from identity_server.homeserver.sync.show import Show
from identity_server.homeserver.sync.standing import Rooms, standing_of
from identity_server.homeserver.sync.timeline import Reader
from identity_server.homeserver.sync.token import SyncToken


@dataclass(frozen=True)
class Answer:
    """``is_news``: whether there is anything but ``next_batch`` and counts in it. ``rooms``: where the user is."""

    body: dict[str, Any]
    token: SyncToken
    is_news: bool
    rooms: frozenset[str]


async def look(session: AsyncSession, parts: SyncParts, request: SyncRequest, *, now_ms: int) -> Answer:
    """All statements of ``session`` see the same state of the database."""
    typing = parts.typing.serial
    marks = await newest(session, request.user_id, request.device_id)
    if request.since is not None and request.told > marks.position:
        # Of a time that a restored database does not know.
        request = replace(request, since=SyncToken(marks.position, typing, marks.position))
    if request.since is None:
        parts.sent_members.forget((request.user_id, request.device_id))
    ignored = await ignored_users(session, request.user_id) if marks.account_data else frozenset[str]()
    rooms = await standing_of(session, parts.joined_rooms, request, marks, ignored)
    look_at = _Look(session, parts, request, marks, rooms, ignored, now_ms)
    body = await look_at.sections()
    is_news = bool(body)
    messages, reached = await new_messages(session, request, marks)
    if messages:
        body["to_device"] = {"events": messages}
    counts, fallback = await key_counts(session, request.user_id, request.device_id)
    token = SyncToken(marks.position, typing, reached)
    body |= {
        "next_batch": str(token),
        "device_one_time_keys_count": counts,
        "device_unused_fallback_key_types": fallback,
    }
    return Answer(body, token, is_news or bool(messages), frozenset(rooms.joined))


@dataclass(frozen=True)
class _Look:
    session: AsyncSession
    parts: SyncParts
    request: SyncRequest
    marks: Newest
    rooms: Rooms
    ignored: frozenset[str]
    now_ms: int

    async def sections(self) -> dict[str, Any]:
        """Those in which there is something."""
        session, request, rooms = self.session, self.request, self.rooms
        show = Show(request.viewer, request.wanted, self.now_ms)
        reader = Reader(
            self.parts.groups, request.user_id, request.wanted.timeline, request.wanted.timeline_limit, self.ignored
        )
        data = await new_account_data(session, request, self.marks, rooms, self.parts.computed)
        joined = await JoinedRoomsAnswer(
            session, self.parts, request, self.marks, rooms, self.ignored, show, reader
        ).gather(data.of_rooms)
        in_rooms = {
            "join": joined.answers,
            "invite": await invited_rooms(session, rooms, request.user_id),
            "knock": await knocked_rooms(session, rooms, request.user_id),
            "leave": await LeftRooms(session, request, show, reader).gather(rooms, data.of_rooms),
        }
        presence = await new_presence(
            session, request, self.marks, rooms, joined.come, self.ignored, now_ms=self.now_ms
        )
        found: dict[str, Any] = {
            "rooms": {name: section for name, section in in_rooms.items() if section},
            "presence": {"events": presence} if presence else {},
            "account_data": {"events": data.of_all} if data.of_all else {},
            "device_lists": await new_device_lists(session, request, self.marks, rooms, moved=joined.moved),
        }
        return {name: section for name, section in found.items() if section}
