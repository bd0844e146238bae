"""What a user has set for a room goes with them into the one that replaces it (Client-Server API, "Room Upgrades")."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.account_data import store as account_data
from identity_server.homeserver.account_data.tags import TAG
from identity_server.homeserver.events.event import CREATE
from identity_server.homeserver.push import store as push
from identity_server.homeserver.push.ruleset import Customised
from identity_server.homeserver.streams import Streams
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.timeline import Timeline

TOMBSTONE = ("m.room.tombstone", "")
_DIRECT = "m.direct"
_OWN = ("override", "underride")


async def predecessor_of(session: AsyncSession, room_id: str) -> str | None:
    """The ID of the room that this one says it replaces, if that one says so too."""
    create = await store.state_event(session, room_id, *CREATE)
    named = create.content.get("predecessor") if create else None
    old = named.get("room_id") if isinstance(named, Mapping) else None
    if not isinstance(old, str) or "\0" in old:
        return None
    tombstone = await store.state_event(session, old, *TOMBSTONE)
    return old if tombstone is not None and tombstone.content.get("replacement_room") == room_id else None


async def follow_replacement(session: AsyncSession, timeline: Timeline, old: str, new: str) -> None:
    """Carry over what our users had set who came into the new room before the old one said that it is replaced."""
    if "\0" in new or await predecessor_of(session, new) != old:
        return
    for user_id in sorted(await store.local_joined_users(session, new, timeline.server_name)):
        await carry_over(session, timeline.streams, user_id, old, new)


async def carry_over(session: AsyncSession, streams: Streams, user_id: str, old: str, new: str) -> None:
    """Tags, push rules, and that the room is one for talking directly. Call it last."""
    tags = await account_data.get(session, user_id, old, TAG)
    if tags and await account_data.get(session, user_id, new, TAG) is None:
        await account_data.put(session, streams, user_id, new, TAG, tags)
    direct = await account_data.get(session, user_id, account_data.GLOBAL, _DIRECT)
    if direct is not None and _with_room(direct, old, new) != direct:
        await account_data.update(
            session, streams, user_id, account_data.GLOBAL, _DIRECT, lambda before: _with_room(before or {}, old, new)
        )
    customised = (await push.rules_of(session, user_id)).customised
    if _with_rules(customised, old, new) != customised:
        await push.change_rules(session, streams, user_id, lambda before: _with_rules(before, old, new))


def _with_room(direct: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
    return {
        user_id: [*rooms, new] if isinstance(rooms, list) and old in rooms and new not in rooms else rooms
        for user_id, rooms in direct.items()
    }


def _with_rules(customised: Customised, old: str, new: str) -> Customised:
    """With a rule for the new room beside each that is about the old one."""
    rules = {rule["rule_id"]: rule for rule in customised.of("room")}
    if old in rules and new not in rules:
        customised = customised.put("room", {**rules[old], "rule_id": new}, after=old)
    for kind in _OWN:
        known = {rule["rule_id"] for rule in customised.of(kind)}
        for rule in customised.of(kind):
            rule_id = new if rule["rule_id"] == old else f"{rule['rule_id']}_{new}"
            conditions = [_about_new(condition, old, new) for condition in rule["conditions"]]
            if conditions != rule["conditions"] and rule_id not in known:
                copied = {**rule, "rule_id": rule_id, "conditions": conditions}
                customised = customised.put(kind, copied, after=rule["rule_id"])
    return customised


def _about_new(condition: Any, old: str, new: str) -> Any:
    is_about_old = (
        isinstance(condition, Mapping) and condition.get("key") == "room_id" and condition.get("pattern") == old
    )
    return {**condition, "pattern": new} if is_about_old else condition
