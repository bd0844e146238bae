"""Rule 10 of the authorisation rules: nobody gives, takes or sets more power than they have."""

from collections.abc import Iterator, Mapping
from typing import Any

from identity_server.homeserver.events.event import Event
from identity_server.homeserver.events.power_levels import DEFAULTS, Level, creators, read_level
from identity_server.homeserver.events.refusal import NotAllowed, require
from identity_server.homeserver.events.versions import RoomVersion

_TABLES = ("events", "notifications", "users")


def check_power_levels(event: Event, create: Event, current: Event | None, power: Level) -> None:
    """``power``: the sender's level by ``current``, the power levels now. Raises ``NotAllowed``."""
    new = dict(_levels(event, strictly=True))  # 10.1, 10.2, 10.3
    users = event.content.get("users", {})
    if event.version.privileged_creators:
        require("10.4", not creators(create) & users.keys(), "the power of creators cannot be set")
    if current is None:
        return  # 10.5
    old = dict(_levels(current, strictly=False))
    for place in {**old, **new}:
        before, after = old.get(place), new.get(place)
        if before == after:
            continue
        table, name = place
        rule = _RULES.get(table, ("10.6.1", "10.6.2"))
        require(rule[0], before is None or before <= power, f"{name} is above the sender's power")
        if table == "users" and name != event.sender:
            require(rule[0], before is None or before < power, f"{name} has as much power as the sender")
        require(rule[1], after is None or after <= power, f"{name} would be above the sender's power")


_RULES = {"events": ("10.7.1", "10.8.1"), "notifications": ("10.7.1", "10.8.1"), "users": ("10.9.1", "10.10.1")}


def _levels(event: Event, *, strictly: bool) -> Iterator[tuple[tuple[str, str], int]]:
    """All levels by table ("" for those outside of any) and name; what is none raises if ``strictly``."""
    content = event.content
    for name in DEFAULTS:
        if name in content:
            yield from _level("10.1", "", name, content[name], event.version, strictly)
    for table in _TABLES:
        rule = "10.3" if table == "users" else "10.2"
        entries = content.get(table, {})
        if not isinstance(entries, Mapping):
            if strictly:
                raise NotAllowed(rule, f"{table} is no object")
            continue
        for name, value in entries.items():
            if strictly and table == "users":
                require("10.3", _names_a_user(name), f"users holds what is no user ID: {name}")
            yield from _level(rule, table, name, value, event.version, strictly)


def _level(
    rule: str, table: str, name: str, value: Any, version: RoomVersion, strictly: bool
) -> Iterator[tuple[tuple[str, str], int]]:
    level = read_level(value, version)
    if level is not None:
        yield (table, name), level
    elif strictly:
        raise NotAllowed(rule, f"the level of {name} is no integer")


def _names_a_user(name: str) -> bool:
    # Only roughly, as other servers do: rooms exist with entries for servers that could not, and a power level for
    # nobody harms nobody, whereas to refuse the event would part us from the room.
    return name.startswith("@") and ":" in name
