"""What a client is told beside rooms: account data, presence, keys, and messages to the device."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.account_data import store as account_data
from identity_server.homeserver.account_data.computed import Computed
from identity_server.homeserver.encryption.for_sync import device_list_changes, to_device_messages
from identity_server.homeserver.presence import store as presence
from identity_server.homeserver.presence.tell import PRESENCE
from identity_server.homeserver.sync.news import Newest
from identity_server.homeserver.sync.request import SyncRequest
from identity_server.homeserver.sync.standing import Rooms
from identity_server.homeserver.timeline import sharing

_MOST_MESSAGES = 100
_PUSH_RULES = "m.push_rules"

Event = dict[str, Any]


@dataclass
class AccountData:
    """``of_all``: what is of no room."""

    of_all: list[Event] = field(default_factory=list)
    of_rooms: dict[str, list[Event]] = field(default_factory=dict)


async def new_account_data(
    session: AsyncSession, request: SyncRequest, newest: Newest, rooms: Rooms, computed: Computed
) -> AccountData:
    """What is new to the client, and all of rooms that are."""
    found = AccountData()
    entries = []
    if request.since is None or newest.account_data > request.told:
        since = request.since.position if request.since else None
        entries = await account_data.changed(session, request.user_id, since, newest.position)
    anew = set(rooms.joined if request.full_state else rooms.entered) if request.since else set[str]()
    if anew and newest.account_data:
        entries = [entry for entry in entries if entry.room_id not in anew]
        entries += await account_data.of_rooms(session, request.user_id, anew)
    wanted = request.wanted
    for room_id, type_, content in entries:
        event = {"type": type_, "content": content}
        if room_id == account_data.GLOBAL:
            if type_ not in computed and wanted.account_data.admits_type(type_):
                found.of_all.append(event)
        elif wanted.room_account_data.admits_type(type_) and wanted.room_account_data.admits_room(room_id):
            found.of_rooms.setdefault(room_id, []).append(event)
    for type_, content_for in computed.items():
        is_new = request.since is None or (type_ == _PUSH_RULES and newest.push_rules > request.told)
        if is_new and wanted.account_data.admits_type(type_):
            found.of_all.append({"type": type_, "content": await content_for(session, request.user_id)})
    return found


async def new_presence(
    session: AsyncSession,
    request: SyncRequest,
    newest: Newest,
    rooms: Rooms,
    come: Collection[str],
    ignored: frozenset[str],
    *,
    now_ms: int,
) -> list[Event]:
    """Of those who share a room: what changed, and what is so of whoever is new (``come``)."""
    wanted = request.wanted.presence
    if not newest.presence or not wanted.admits_type(PRESENCE):
        return []
    found: dict[str, presence.Status] = {}
    if request.since is not None and newest.presence > request.told:
        changed = {
            status.user_id: status for status in await presence.changed_since(session, request.told, newest.position)
        }
        if changed:
            near = await sharing.joined_to_any(session, changed, rooms.joined) | {request.user_id}
            found |= {user_id: status for user_id, status in changed.items() if user_id in near}
    new = set(come) | await sharing.joined_users_of(session, rooms.entered) if come or rooms.entered else set[str]()
    if new:
        found |= {
            status.user_id: status
            for status in await presence.statuses_of(session, new - found.keys())
            if status.presence != presence.OFFLINE
        }
    return [
        {"type": PRESENCE, "sender": user_id, "content": status.as_content(now_ms=now_ms)}
        for user_id, status in found.items()
        if user_id not in ignored and wanted.admits_sender(user_id)
    ]


async def new_messages(session: AsyncSession, request: SyncRequest, newest: Newest) -> tuple[list[Event], int]:
    """Messages to the device, and the position up to which they are all."""
    since = request.since.to_device if request.since else 0
    if newest.to_device <= since:
        return [], newest.position
    return await to_device_messages(session, request.user_id, request.device_id, since, newest.position, _MOST_MESSAGES)


async def new_device_lists(
    session: AsyncSession, request: SyncRequest, newest: Newest, rooms: Rooms, *, moved: bool
) -> Mapping[str, list[str]]:
    """``moved``: whether anybody came into one of the rooms, or left it."""
    if request.since is None or not (moved or newest.device_lists > request.told or newest.memberships > request.told):
        return {}
    changed, left = await device_list_changes(
        session, request.user_id, request.told, newest.position, joined_rooms=rooms.joined
    )
    lists = {"changed": sorted(changed), "left": sorted(left)}
    return lists if changed or left else {}
