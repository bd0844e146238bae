from typing import Any

from tests.homeserver.sync.conftest import Person

RULES = "/pushrules/global"


async def ids(person: Person, kind: str) -> list[str]:
    return [rule["rule_id"] for rule in (await person.do("GET", f"{RULES}/"))[kind]]


async def test_everybody_has_the_predefined_rules(alice: Person) -> None:
    rules = (await alice.do("GET", "/pushrules/"))["global"]
    assert [rule["rule_id"] for rule in rules["override"]] == [
        ".m.rule.master",
        ".m.rule.suppress_notices",
        ".m.rule.invite_for_me",
        ".m.rule.member_event",
        ".m.rule.is_user_mention",
        ".m.rule.is_room_mention",
        ".m.rule.tombstone",
        ".m.rule.reaction",
        ".m.rule.room.server_acl",
        ".m.rule.suppress_edits",
    ]
    assert [rule["rule_id"] for rule in rules["underride"]] == [
        ".m.rule.call",
        ".m.rule.encrypted_room_one_to_one",
        ".m.rule.room_one_to_one",
        ".m.rule.message",
        ".m.rule.encrypted",
    ]
    assert rules["content"] == rules["room"] == rules["sender"] == []


async def test_rules_are_added_where_they_are_wanted(alice: Person) -> None:
    async def put(rule_id: str, **place: Any) -> None:
        await alice.do("PUT", f"{RULES}/content/{rule_id}", {"pattern": "x", "actions": ["notify"]}, **place)

    for rule_id in ("a", "b"):
        await put(rule_id)
    assert await ids(alice, "content") == ["b", "a"]
    await put("c", after="b")
    await put("d", before="b")
    assert await ids(alice, "content") == ["d", "b", "c", "a"]
    await put("a", before="d")
    assert await ids(alice, "content") == ["a", "d", "b", "c"]
    await put("d")
    assert await ids(alice, "content") == ["a", "d", "b", "c"]
    await alice.do("DELETE", f"{RULES}/content/d")
    assert await ids(alice, "content") == ["a", "b", "c"]
    override = {"conditions": [{"kind": "event_match", "key": "type", "pattern": "m.x"}], "actions": []}
    await alice.do("PUT", f"{RULES}/override/mine", override)
    assert (await ids(alice, "override"))[:3] == [".m.rule.master", "mine", ".m.rule.suppress_notices"]
    assert await alice.do("GET", f"{RULES}/override/mine") == {
        "rule_id": "mine",
        "default": False,
        "enabled": True,
        **override,
    }


async def test_rules_are_changed_and_switched_off(alice: Person) -> None:
    await alice.do("PUT", f"{RULES}/sender/@bob:hs.test", {"actions": ["dont_notify"]})
    assert (await alice.do("GET", f"{RULES}/sender/@bob:hs.test"))["actions"] == ["dont_notify"]
    for rule in ("sender/@bob:hs.test", "underride/.m.rule.message"):
        await alice.do("PUT", f"{RULES}/{rule}/enabled", {"enabled": False})
        await alice.do("PUT", f"{RULES}/{rule}/actions", {"actions": ["notify", {"set_tweak": "highlight"}]})
        assert await alice.do("GET", f"{RULES}/{rule}/enabled") == {"enabled": False}
        actions = ["notify", {"set_tweak": "highlight"}]
        assert await alice.do("GET", f"{RULES}/{rule}/actions") == {"actions": actions}
        shown = await alice.do("GET", f"{RULES}/{rule}")
        assert (shown["enabled"], shown["actions"]) == (False, actions)


async def test_rules_that_cannot_be_are_refused(alice: Person) -> None:
    notify = {"actions": ["notify"]}
    for rule, body, params, status in (
        ("content/.dotted", {**notify, "pattern": "x"}, {}, 400),
        ("content/back\\slash", {**notify, "pattern": "x"}, {}, 400),
        ("content/no_pattern", notify, {}, 400),
        ("odd/kind", notify, {}, 400),
        ("override/no_actions", {}, {}, 400),
        ("override/odd_action", {"actions": ["dance"]}, {}, 400),
        ("override/odd_conditions", {**notify, "conditions": ["x"]}, {}, 400),
        ("override/lost", notify, {"before": "unknown"}, 400),
        ("override/lost", notify, {"after": ".m.rule.master"}, 400),
    ):
        answer = await alice.ask("PUT", f"{RULES}/{rule}", body, **params)
        assert answer.status_code == status, (rule, answer.text)
    assert (await alice.ask("DELETE", f"{RULES}/override/.m.rule.master")).status_code == 404
    assert (await alice.ask("PUT", f"{RULES}/override/unknown/enabled", {"enabled": True})).status_code == 404
    assert (await alice.ask("GET", f"{RULES}/override/unknown")).status_code == 404
    assert (await alice.ask("GET", f"{RULES}/override/unknown/actions")).status_code == 404
    # One for an alias matches nothing, but can be.
    await alice.do("PUT", f"{RULES}/room/%23tea:hs.test", notify)
    assert (await alice.do("GET", f"{RULES}/room/%23tea:hs.test"))["rule_id"] == "#tea:hs.test"


async def test_pushers_are_set_and_taken_away(alice: Person, bob: Person) -> None:
    pusher = {
        "kind": "http",
        "app_id": "org.example.app",
        "pushkey": "key",
        "app_display_name": "App",
        "device_display_name": "Phone",
        "lang": "en",
        "data": {"url": "https://push.test/_matrix/push/v1/notify", "format": "event_id_only"},
    }
    await alice.do("POST", "/pushers/set", pusher)
    assert (await alice.do("GET", "/pushers"))["pushers"] == [pusher]
    await bob.do("POST", "/pushers/set", {**pusher, "append": True})
    assert len((await alice.do("GET", "/pushers"))["pushers"]) == 1
    await bob.do("POST", "/pushers/set", pusher)
    assert (await alice.do("GET", "/pushers"))["pushers"] == []
    await bob.do("POST", "/pushers/set", {"kind": None, "app_id": "org.example.app", "pushkey": "key"})
    assert (await bob.do("GET", "/pushers"))["pushers"] == []
    for change in (
        {"data": {}},
        {"data": {"url": "ftp://push.test/_matrix/push/v1/notify"}},
        {"data": {"url": "https://push.test/elsewhere"}},
        {"kind": "odd"},
        {"lang": None},
        {"app_id": "x" * 65},
    ):
        assert (await alice.ask("POST", "/pushers/set", {**pusher, **change})).status_code == 400, change
