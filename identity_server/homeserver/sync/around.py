"""What a client is told beside rooms: account data, presence, keys, and messages to the device."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from identity_server.homeserver.account_data import store as account_data
from identity_server.homeserver.encryption.for_sync import device_list_changes, to_device_messages
from identity_server.homeserver.presence import store as presence
from identity_server.homeserver.presence.tell import PRESENCE
from identity_server.homeserver.sync.looking import Look
from identity_server.homeserver.timeline import sharing

_MOST_MESSAGES = 100

Event = dict[str, Any]


@dataclass
class AccountData:
    """``of_all``: what is of no room."""

    of_all: list[Event] = field(default_factory=list)
    of_rooms: dict[str, list[Event]] = field(default_factory=dict)


async def new_account_data(look: Look) -> AccountData:
    """What is new to the client, and all of rooms that are."""
    session, request, newest = look.session, look.request, look.newest
    found = AccountData()
    entries = []
    if request.since is None or newest.account_data > look.since:
        since = None if request.since is None else look.since
        entries = await account_data.changed(session, request.user_id, since, look.upto)
    if request.since is not None and look.anew and newest.account_data:
        entries = [entry for entry in entries if entry.room_id not in look.anew]
        entries += await account_data.of_rooms(session, request.user_id, look.anew)
    wanted, computed = request.wanted, look.parts.computed
    for room_id, type_, content in entries:
        event = {"type": type_, "content": content}
        if room_id == account_data.GLOBAL:
            if type_ not in computed and wanted.account_data.admits_type(type_):
                found.of_all.append(event)
        elif wanted.room_account_data.admits_type(type_) and wanted.room_account_data.admits_room(room_id):
            found.of_rooms.setdefault(room_id, []).append(event)
    if request.since is None or newest.push_rules > look.since:
        for type_, content_for in computed.items():
            if wanted.account_data.admits_type(type_):
                found.of_all.append({"type": type_, "content": await content_for(session, request.user_id)})
    return found


async def new_presence(look: Look, come: Collection[str]) -> list[Event]:
    """Of the user and those who share a room: what changed, and what is so of whoever is new (``come``)."""
    session, request, wanted = look.session, look.request, look.request.wanted.presence
    if not look.newest.presence or not wanted.admits_type(PRESENCE):
        return []
    found: dict[str, presence.Status] = {}
    if request.since is not None and look.newest.presence > look.since:
        changed = {status.user_id: status for status in await presence.changed_since(session, look.since, look.upto)}
        if changed:
            near = await sharing.joined_to_any(session, changed, look.rooms.joined) | {request.user_id}
            found |= {user_id: status for user_id, status in changed.items() if user_id in near}
    unknown = {request.user_id, *come} if request.since is None else come
    new = await presence.statuses_of(session, unknown) if unknown else []
    if look.rooms.entered:
        new += await presence.present_in(session, look.rooms.entered)
    for status in new:
        if status.presence != presence.OFFLINE:
            found.setdefault(status.user_id, status)
    return [
        {"type": PRESENCE, "sender": user_id, "content": status.as_content(now_ms=look.now_ms)}
        for user_id, status in found.items()
        if user_id not in look.ignored and wanted.admits_sender(user_id)
    ]


async def new_messages(look: Look) -> tuple[list[Event], int]:
    """Messages to the device, and the position up to which they are all."""
    request = look.request
    since = request.since.to_device if request.since else 0
    if look.newest.to_device <= since:
        return [], look.upto
    return await to_device_messages(look.session, request.user_id, request.device_id, since, look.upto, _MOST_MESSAGES)


async def new_device_lists(look: Look, *, moved: bool) -> Mapping[str, list[str]]:
    """``moved``: whether anybody came into one of the rooms, or left it."""
    newest = look.newest
    if look.request.since is None or not (moved or max(newest.device_lists, newest.memberships) > look.since):
        return {}
    changed, left = await device_list_changes(
        look.session, look.request.user_id, look.since, look.upto, joined_rooms=look.rooms.joined
    )
    return {"changed": sorted(changed), "left": sorted(left)} if changed or left else {}
