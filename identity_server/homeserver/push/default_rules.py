"""The rules that everybody has (Client-Server API, "Predefined Rules"), in their order."""

from collections.abc import Mapping
from typing import Any

MASTER = ".m.rule.master"

Rule = Mapping[str, Any]

_SOUND = {"set_tweak": "sound", "value": "default"}
_RING = {"set_tweak": "sound", "value": "ring"}
_HIGHLIGHT = {"set_tweak": "highlight"}


def _match(key: str, pattern: str) -> dict[str, Any]:
    return {"kind": "event_match", "key": key, "pattern": pattern}


def _is(key: str, value: Any) -> dict[str, Any]:
    return {"kind": "event_property_is", "key": key, "value": value}


def _rule(rule_id: str, conditions: list[dict[str, Any]], *actions: Any, enabled: bool = True) -> Rule:
    return {
        "rule_id": rule_id,
        "default": True,
        "enabled": enabled,
        "conditions": conditions,
        "actions": list(actions),
    }


def default_override_rules(user_id: str) -> list[Rule]:
    """``.m.rule.master`` comes first: it alone stands above what users define."""
    mentions = {"kind": "event_property_contains", "key": r"content.m\.mentions.user_ids", "value": user_id}
    may_notify_room = {"kind": "sender_notification_permission", "key": "room"}
    invited = [_match("type", "m.room.member"), _match("content.membership", "invite"), _match("state_key", user_id)]
    return [
        _rule(MASTER, [], enabled=False),
        _rule(".m.rule.suppress_notices", [_match("content.msgtype", "m.notice")]),
        _rule(".m.rule.invite_for_me", invited, "notify", _SOUND),
        _rule(".m.rule.member_event", [_match("type", "m.room.member")]),
        _rule(".m.rule.is_user_mention", [mentions], "notify", _SOUND, _HIGHLIGHT),
        _rule(
            ".m.rule.is_room_mention",
            [_is(r"content.m\.mentions.room", True), may_notify_room],
            "notify",
            _HIGHLIGHT,
        ),
        _rule(".m.rule.tombstone", [_match("type", "m.room.tombstone"), _match("state_key", "")], "notify", _HIGHLIGHT),
        _rule(".m.rule.reaction", [_match("type", "m.reaction")]),
        _rule(".m.rule.room.server_acl", [_match("type", "m.room.server_acl"), _match("state_key", "")]),
        _rule(".m.rule.suppress_edits", [_is(r"content.m\.relates_to.rel_type", "m.replace")]),
    ]


def default_underride_rules() -> list[Rule]:
    between_two = {"kind": "room_member_count", "is": "2"}
    return [
        _rule(".m.rule.call", [_match("type", "m.call.invite")], "notify", _RING),
        _rule(".m.rule.encrypted_room_one_to_one", [between_two, _match("type", "m.room.encrypted")], "notify", _SOUND),
        _rule(".m.rule.room_one_to_one", [between_two, _match("type", "m.room.message")], "notify", _SOUND),
        _rule(".m.rule.message", [_match("type", "m.room.message")], "notify"),
        _rule(".m.rule.encrypted", [_match("type", "m.room.encrypted")], "notify"),
    ]
