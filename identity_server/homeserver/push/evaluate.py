"""Which rule an event meets first, and what is to be done then (Client-Server API, "Push Rules")."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from identity_server.homeserver.events.event import Event
from identity_server.homeserver.events.power_levels import PowerLevels
from identity_server.homeserver.push.default_rules import Rule
from identity_server.homeserver.push.patterns import in_words, whole, word
from identity_server.homeserver.push.ruleset import KINDS

_DEFAULT_NOTIFICATION_LEVEL = 50
_COUNT = re.compile(r"(==|<=|>=|<|>)?([0-9]{1,15})")
_COMPARISONS: Mapping[str, Callable[[int, int], bool]] = {
    "==": int.__eq__,
    "<": int.__lt__,
    ">": int.__gt__,
    "<=": int.__le__,
    ">=": int.__ge__,
}
_MISSING = object()


@dataclass(frozen=True)
class Circumstances:
    """What rules may ask of the room. ``display_name``: that of the rules' owner in it."""

    member_count: int
    power_levels: PowerLevels
    display_name: str | None = None


Test = Callable[[Event, Circumstances], bool]


class Rules:
    """A ruleset made ready to be asked many times."""

    def __init__(self, rules: Mapping[str, Sequence[Rule]]) -> None:
        self._rules: list[tuple[list[Test], Sequence[Any]]] = [
            (_tests(kind, rule), rule["actions"]) for kind in KINDS for rule in rules.get(kind, ()) if rule["enabled"]
        ]

    def actions_for(self, event: Event, circumstances: Circumstances) -> Sequence[Any]:
        """The actions of the first rule that matches; none if nothing is to be done."""
        for tests, actions in self._rules:
            if all(test(event, circumstances) for test in tests):
                return actions
        return ()


def notifies(actions: Sequence[Any]) -> bool:
    return "notify" in actions


def tweaks_of(actions: Sequence[Any]) -> dict[str, Any]:
    """By name; ``highlight`` without a value is true."""
    return {
        action["set_tweak"]: action.get("value", True if action["set_tweak"] == "highlight" else None)
        for action in actions
        if isinstance(action, Mapping)
    }


def highlights(actions: Sequence[Any]) -> bool:
    return tweaks_of(actions).get("highlight") is True


def _tests(kind: str, rule: Rule) -> list[Test]:
    match kind:
        case "room":
            return [lambda event, _: event.room_id == rule["rule_id"]]
        case "sender":
            return [lambda event, _: event.sender == rule["rule_id"]]
        case "content":
            return [_event_match({"key": "content.body", "pattern": rule["pattern"]})]
        case _:
            return [_condition(condition) for condition in rule["conditions"]]


def _condition(condition: Mapping[str, Any]) -> Test:
    make = _CONDITIONS.get(condition["kind"])
    return make(condition) if make else _never


def _never(_event: Event, _circumstances: Circumstances) -> bool:
    return False


def _event_match(condition: Mapping[str, Any]) -> Test:
    key, pattern = condition.get("key"), condition.get("pattern")
    if not isinstance(key, str) or not isinstance(pattern, str):
        return _never
    path = _path(key)
    if key == "content.body":
        matches = in_words(pattern)
    elif "*" in pattern or "?" in pattern:
        matches = whole(pattern)
    else:
        matches = _the_same(pattern)

    def test(event: Event, _: Circumstances) -> bool:
        value = _value_at(event, path)
        return isinstance(value, str) and matches(value)

    return test


def _the_same(text: str) -> Callable[[str], bool]:
    wanted = text.lower()
    return lambda value: value.lower() == wanted


def _event_property_is(condition: Mapping[str, Any]) -> Test:
    key, wanted = condition.get("key"), condition.get("value", _MISSING)
    if not isinstance(key, str) or not _is_simple(wanted):
        return _never
    path = _path(key)
    return lambda event, _: _is_same(_value_at(event, path), wanted)


def _event_property_contains(condition: Mapping[str, Any]) -> Test:
    key, wanted = condition.get("key"), condition.get("value", _MISSING)
    if not isinstance(key, str) or not _is_simple(wanted):
        return _never
    path = _path(key)

    def test(event: Event, _: Circumstances) -> bool:
        value = _value_at(event, path)
        return isinstance(value, list) and any(_is_same(item, wanted) for item in value)

    return test


def _room_member_count(condition: Mapping[str, Any]) -> Test:
    wanted = condition.get("is")
    read = _COUNT.fullmatch(wanted) if isinstance(wanted, str) else None
    if read is None:
        return _never
    compare, count = _COMPARISONS[read[1] or "=="], int(read[2])
    return lambda _, circumstances: compare(circumstances.member_count, count)


def _sender_notification_permission(condition: Mapping[str, Any]) -> Test:
    key = condition.get("key")
    if not isinstance(key, str):
        return _never

    def test(event: Event, circumstances: Circumstances) -> bool:
        levels = circumstances.power_levels
        return levels.of(event.sender) >= levels.notifications.get(key, _DEFAULT_NOTIFICATION_LEVEL)

    return test


def _contains_display_name(_condition: Mapping[str, Any]) -> Test:
    def test(event: Event, circumstances: Circumstances) -> bool:
        name, body = circumstances.display_name or "", event.content.get("body")
        return bool(name) and isinstance(body, str) and word(name)(body)

    return test


_CONDITIONS: Mapping[str, Callable[[Mapping[str, Any]], Test]] = {
    "event_match": _event_match,
    "event_property_is": _event_property_is,
    "event_property_contains": _event_property_contains,
    "room_member_count": _room_member_count,
    "sender_notification_permission": _sender_notification_permission,
    "contains_display_name": _contains_display_name,
}


def _path(key: str) -> list[str]:
    """The fields that a dotted path names (Appendices, "Dot-separated property paths")."""
    fields, current, characters = [], "", iter(key)
    for character in characters:
        if character == ".":
            fields.append(current)
            current = ""
        elif character == "\\":
            following = next(characters, "")
            current += following if following in (".", "\\") else "\\" + following
        else:
            current += character
    return [*fields, current]


def _value_at(event: Event, path: Sequence[str]) -> Any:
    first, *others = path
    match first:
        case "event_id":
            value: Any = event.event_id
        case "room_id":
            value = event.room_id
        case _:
            value = event.pdu.get(first, _MISSING)
    for name in others:
        if not isinstance(value, Mapping):
            return _MISSING
        value = value.get(name, _MISSING)
    return value


def _is_simple(value: Any) -> bool:
    return value is None or isinstance(value, str | int)


def _is_same(value: Any, wanted: Any) -> bool:
    """``True`` is not 1 here."""
    return value is wanted or (type(value) is type(wanted) and value == wanted)
