"""Rule 10 of the authorisation rules: nobody gives, takes or sets more power than they have."""

from collections.abc import Container, Iterator, Mapping
from typing import Any

from identity_server.homeserver.events.event import Event
from identity_server.homeserver.events.power_levels import DEFAULTS, Level, creators, read_level
from identity_server.homeserver.events.refusal import require
from identity_server.homeserver.events.versions import RoomVersion

_OUTSIDE = ""
_TABLES = ("events", "notifications", "users")


def check_power_levels(event: Event, create: Event, current: Event | None, power: Level) -> None:
    """``power``: the sender's level by ``current``, the power levels now. Raises ``NotAllowed``."""
    # 10.1, 10.2 hold since room version 10. Before, nothing is said of levels that cannot be read, except in `users`;
    # but where there are levels to compare with, one that cannot be compared is refused, as others do.
    all_strictly = event.version.integer_power_levels or current is not None
    new = dict(_levels(event, strictly=(_OUTSIDE, *_TABLES) if all_strictly else ("users",)))  # 10.1, 10.2, 10.3
    if event.version.privileged_creators:
        set_creators = creators(create) & event.content.get("users", {}).keys()
        require("10.4", not set_creators, "the power of creators cannot be set")
    if current is None:
        return  # 10.5
    old = dict(_levels(current, strictly=()))
    for place in {**old, **new}:
        before, after = old.get(place), new.get(place)
        if before == after:
            continue
        table, name = place
        rule_before, rule_after = _RULES[table]
        require(rule_before, before is None or before <= power, f"{name} is above the sender's power")
        if table == "users" and name != event.sender:
            require(rule_before, before is None or before < power, f"{name} has as much power as the sender")
        require(rule_after, after is None or after <= power, f"{name} would be above the sender's power")


_RULES = {
    _OUTSIDE: ("10.6.1", "10.6.2"),
    "events": ("10.7.1", "10.8.1"),
    "notifications": ("10.7.1", "10.8.1"),
    "users": ("10.9.1", "10.10.1"),
}


def _levels(event: Event, *, strictly: Container[str]) -> Iterator[tuple[tuple[str, str], int]]:
    """All levels by table and name; what is none is passed over, or in tables of ``strictly`` raises."""
    content = event.content
    named = {name: content[name] for name in DEFAULTS if name in content}
    yield from _entries("10.1", _OUTSIDE, named, event.version, _OUTSIDE in strictly)
    for table in _TABLES:
        rule = "10.3" if table == "users" else "10.2"
        entries = content.get(table, {})
        if isinstance(entries, Mapping):
            if table == "users" and table in strictly:
                require(rule, all(map(_names_a_user, entries)), "users holds what is no user ID")
            yield from _entries(rule, table, entries, event.version, table in strictly)
        elif table == "users" or event.version.integer_power_levels:
            require(rule, table not in strictly, f"{table} is no object")


def _entries(
    rule: str, table: str, entries: Mapping[str, Any], version: RoomVersion, is_strict: bool
) -> Iterator[tuple[tuple[str, str], int]]:
    for name, value in entries.items():
        level = read_level(value, version)
        if level is not None:
            yield (table, name), level
        else:
            require(rule, not is_strict, f"the level of {name} is no integer")


def _names_a_user(name: str) -> bool:
    # Only roughly, as other servers do: rooms exist with entries for servers that could not, and a power level for
    # nobody harms nobody, whereas to refuse the event would part us from the room.
    return name.startswith("@") and ":" in name
