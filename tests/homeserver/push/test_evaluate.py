"""Rules by themselves (Client-Server API, "Push Rules")."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_server.homeserver.events.event import Event
from identity_server.homeserver.events.power_levels import PowerLevels
from identity_server.homeserver.events.versions import VERSIONS
from identity_server.homeserver.push.evaluate import Circumstances, Rules
from identity_server.homeserver.push.patterns import in_words, whole
from identity_server.homeserver.push.ruleset import Customised, ruleset

VERSION = VERSIONS["10"]


def event(content: dict[str, Any], type_: str = "m.room.message", **more: Any) -> Event:
    return Event("$e", {"type": type_, "room_id": "!r:a", "sender": "@bob:a", "content": content, **more}, VERSION)


POWER = event({"users": {"@bob:a": 50}, "notifications": {"room": 60, "call": 40}}, "m.room.power_levels", state_key="")
WHERE = Circumstances(2, PowerLevels(None, POWER), "Alice (tea)")


def matches(condition: dict[str, Any], about: Event, where: Circumstances = WHERE) -> bool:
    rule = {"rule_id": "x", "enabled": True, "conditions": [condition], "actions": ["notify"]}
    return bool(Rules({"override": [rule]}).actions_for(about, where))


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("lunc?*", "Lunch plans", True),
        ("lunc?*", "LUNCH", True),
        ("lunc?*", " lunch", False),
        ("lunc?*", "lunc", False),
        ("", "", True),
        ("*", "", True),
        ("a*b*c", "aXbXbc", True),
        ("a*a", "a", False),
        ("[a]", "[a]", True),
        ("a\\*", "a\\x", True),
    ],
)
def test_a_pattern_matches_the_whole_text(pattern: str, text: str, expected: bool) -> None:
    assert whole(pattern)(text) is expected


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("ex*ple", "An example event.", True),
        ("ex*ple", "exple", True),
        ("ex*ple", "An exciting triple-whammy", True),
        ("ex*ple", "An exciting triplet", False),
        ("cake", "cupcake", False),
        ("cake", "a cake!", True),
        ("cake", "cake_", False),
        ("@room", "hey @room", True),
        ("@room", "hey@room", False),
        ("te?", "Tea time", True),
        ("tea*", "green tea", True),
        ("*tea", "sweetea", True),
    ],
)
def test_a_word_is_found_between_boundaries(pattern: str, text: str, expected: bool) -> None:
    assert in_words(pattern)(text) is expected


@given(st.text("ab*?", max_size=6), st.text("ab", max_size=8))
def test_a_pattern_matches_as_the_obvious_algorithm_says(pattern: str, text: str) -> None:
    def obvious(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern[0] == "*":
            return any(obvious(pattern[1:], text[at:]) for at in range(len(text) + 1))
        return bool(text) and pattern[0] in ("?", text[0]) and obvious(pattern[1:], text[1:])

    assert whole(pattern)(text) is obvious(pattern, text)


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    assert not whole("a*" * 200 + "b")("a" * 50_000)
    assert not in_words("a*" * 200 + "b")("a" * 50_000)


def test_conditions_say_what_they_say() -> None:
    about = event({"body": "hi alice (tea), all", "n": 1, "flag": True, "a.b": None, "list": [1, "x", {}]})
    assert matches({"kind": "event_match", "key": "type", "pattern": "M.ROOM.*"}, about)
    assert not matches({"kind": "event_match", "key": "content.n", "pattern": "*"}, about)
    assert not matches({"kind": "event_match", "key": "content.absent", "pattern": "*"}, about)
    assert matches({"kind": "event_match", "key": "room_id", "pattern": "!r:a"}, about)
    assert matches({"kind": "event_property_is", "key": "content.n", "value": 1}, about)
    assert not matches({"kind": "event_property_is", "key": "content.n", "value": True}, about)
    assert matches({"kind": "event_property_is", "key": "content.flag", "value": True}, about)
    assert matches({"kind": "event_property_is", "key": r"content.a\.b", "value": None}, about)
    assert not matches({"kind": "event_property_is", "key": "content.absent", "value": None}, about)
    assert matches({"kind": "event_property_contains", "key": "content.list", "value": "x"}, about)
    assert not matches({"kind": "event_property_contains", "key": "content.list", "value": True}, about)
    assert not matches({"kind": "event_property_contains", "key": "content.n", "value": 1}, about)
    assert matches({"kind": "contains_display_name"}, about)
    assert not matches({"kind": "contains_display_name"}, about, Circumstances(2, WHERE.power_levels))
    for is_, expected in (("2", True), ("==2", True), (">2", False), (">=2", True), ("<3", True), ("x", False)):
        assert matches({"kind": "room_member_count", "is": is_}, about) is expected
    assert matches({"kind": "sender_notification_permission", "key": "call"}, about)
    assert not matches({"kind": "sender_notification_permission", "key": "room"}, about)
    assert not matches({"kind": "unheard_of"}, about)
    for odd in ({"kind": "event_match"}, {"kind": "event_match", "key": 1, "pattern": []}):
        assert not matches(odd, about)


def test_kinds_are_asked_in_their_order_and_the_first_match_decides() -> None:
    customised = Customised()
    for kind, rule_id, actions in (
        ("room", "!r:a", ["room"]),
        ("sender", "@bob:a", ["sender"]),
        ("content", "word", ["content"]),
        ("override", "always", ["override"]),
    ):
        rule = {"rule_id": rule_id, "default": False, "enabled": True, "actions": actions, "conditions": []}
        customised = customised.put(kind, {**rule, "pattern": "tea"})
    about, order = event({"msgtype": "m.text", "body": "tea"}), []
    for kind, rule_id in (("override", "always"), ("content", "word"), ("room", "!r:a"), ("sender", "@bob:a")):
        order += Rules(ruleset(customised, "@alice:a")).actions_for(about, WHERE)
        customised = customised.change(kind, rule_id, "@alice:a", "enabled", False)
    assert order == ["override", "content", "room", "sender"]
    default = Rules(ruleset(customised, "@alice:a")).actions_for(about, WHERE)
    assert default == ["notify", {"set_tweak": "sound", "value": "default"}]
