"""The authorisation rules, by the numbers that they have in room version 12."""

from collections.abc import Mapping
from typing import Any

import pytest

from identity_server.homeserver.events.auth_rules import NotAllowed, auth_keys, authorise, check_auth_events
from identity_server.homeserver.events.event import CREATE, JOIN_RULES, POWER_LEVELS, Event, StateKey, member
from identity_server.homeserver.events.versions import VERSIONS
from identity_server.matrix.signing import sign_json
from tests.homeserver.events.random_rooms import ALICE, BOB, CAROL, DAVE, key_of

ALL = tuple(VERSIONS)
ROOM = "!room:one"


class Scene:
    """A room of ``version`` by its state: Alice has created it, the rest is told by the test."""

    def __init__(self, version: str, create: Mapping[str, Any] = {}, **levels: Any) -> None:
        self.version = VERSIONS[version]
        self.state: dict[StateKey, Event] = {}
        self.room_id = "!create" if self.version.room_id_is_create_event_id else ROOM
        content = {"room_version": version, **create}
        if self.version.creator_in_content:
            content["creator"] = ALICE
        pdu = self.pdu("m.room.create", ALICE, content, "", prev_events=[], auth_events=[])
        if self.version.room_id_is_create_event_id:
            del pdu["room_id"]
        self.create = self.state[CREATE] = Event("$create", pdu, self.version)
        self.joined(ALICE)
        if levels:
            users = {} if self.version.privileged_creators else {ALICE: 100}
            self.has("m.room.power_levels", {**levels, "users": {**users, **levels.get("users", {})}})

    def pdu(
        self, event_type: str, sender: str, content: Any, state_key: str | None = None, **more: Any
    ) -> dict[str, Any]:
        keyed = {} if state_key is None else {"state_key": state_key}
        pdu = {"room_id": self.room_id, "type": event_type, "sender": sender, "content": content, "depth": 5}
        defaults = {"origin_server_ts": 1, "prev_events": ["$before"], "auth_events": [], "signatures": {}}
        return {**pdu, **keyed, **defaults, **more}

    def event(self, *args: Any, **more: Any) -> Event:
        return Event(f"$event{len(self.state)}", self.pdu(*args, **more), self.version)

    def has(self, event_type: str, content: Any, state_key: str = "", sender: str = ALICE) -> "Scene":
        event = self.event(event_type, sender, content, state_key)
        self.state[event.key] = event
        return self

    def joined(self, *users: str, membership: str = "join") -> "Scene":
        for user in users:
            self.has("m.room.member", {"membership": membership}, user, user)
        return self

    def rule(self, join_rule: Any) -> "Scene":
        return self.has("m.room.join_rules", {"join_rule": join_rule})

    def verdict(self, *args: Any, **more: Any) -> str | None:
        """The number of the rule that refuses, or None."""
        try:
            authorise(self.event(*args, **more), self.state)
        except NotAllowed as refused:
            return refused.rule
        return None

    def moves(self, sender: str, target: str, membership: Any, **more: Any) -> str | None:
        return self.verdict("m.room.member", sender, {"membership": membership, **more}, target)


every_version = pytest.mark.parametrize("version", ALL)


def since(identifier: str) -> tuple[str, ...]:
    return ALL[ALL.index(identifier) :]


def until(identifier: str) -> tuple[str, ...]:
    return ALL[: ALL.index(identifier) + 1]


def create_verdict(version: str, **changes: Any) -> str | None:
    scene = Scene(version)
    pdu = {**scene.create.pdu, **changes}
    try:
        authorise(Event("$create", pdu, scene.version), {})
    except NotAllowed as refused:
        return refused.rule
    return None


@every_version
def test_rule_1_a_room_begins_with_a_create_event_of_its_creators_server(version: str) -> None:
    content = Scene(version).create.content
    assert create_verdict(version) is None
    assert create_verdict(version, prev_events=["$before"]) == "1.1"
    assert create_verdict(version, room_id="!room:two") == "1.2"
    assert create_verdict(version, room_id="!room") == "1.2"
    for unknown in ("99", 6, None, ["6"]):
        assert create_verdict(version, content={**content, "room_version": unknown}) == "1.3"
    without_creator = {name: value for name, value in content.items() if name != "creator"}
    assert create_verdict(version, content=without_creator) == ("1.4" if version in until("10") else None)
    for additional in (
        BOB,
        {BOB: 1},
        [1],
        ["bob"],
        ["@bob"],
        ["@bob:no domain"],
        [BOB, None],
        ["@" + "b" * 255 + ":x"],
    ):
        refused = create_verdict(version, content={**content, "additional_creators": additional})
        assert refused == ("1.4" if version == "12" else None)
    assert create_verdict(version, content={**content, "additional_creators": [BOB, "@c:d:80"]}) is None


@every_version
def test_rule_2_the_event_is_in_the_room_of_the_create_event(version: str) -> None:
    scene = Scene(version)
    assert scene.verdict("m.room.message", ALICE, {}) is None
    assert scene.verdict("m.room.message", ALICE, {}, room_id="!other:one") == "2"
    del scene.state[CREATE]
    assert scene.verdict("m.room.message", ALICE, {}) == "3.4"


@every_version
def test_rule_3_only_events_that_have_a_say_are_cited_and_each_once(version: str) -> None:
    scene = Scene(version, users_default=0).rule("public").joined(BOB)
    event = scene.event("m.room.message", ALICE, {})
    create = [] if version == "12" else [scene.create]
    good = [*create, scene.state[POWER_LEVELS], scene.state[member(ALICE)]]

    def verdict(*cited: Event, rejected: Any = ()) -> str | None:
        try:
            check_auth_events(event, cited, rejected)
        except NotAllowed as refused:
            return refused.rule
        return None

    assert verdict(*good) is None
    assert verdict(*good, scene.state[member(ALICE)]) == "3.1"
    assert verdict(*good, scene.state[member(BOB)]) == "3.2"
    assert verdict(*good, scene.state[JOIN_RULES]) == "3.2"
    assert verdict(*good, scene.event("m.room.message", ALICE, {})) == "3.2"
    assert verdict(*good, rejected={scene.state[POWER_LEVELS].event_id}) == "3.3"
    elsewhere = Event("$elsewhere", {**good[-1].pdu, "room_id": "!other:one"}, scene.version)
    assert verdict(*good[:-1], elsewhere) == "3.5"
    if version == "12":
        assert verdict(*good, scene.create) == "3.2"
    else:
        assert verdict(*good[1:]) == "3.4"


def test_which_events_have_a_say() -> None:
    base = {CREATE, POWER_LEVELS, member(ALICE)}

    def keys(content: Any, version: str = "11", event_type: str = "m.room.member") -> set[StateKey]:
        return auth_keys(event_type, ALICE, BOB, content, VERSIONS[version])

    signed = {"third_party_invite": {"signed": {"token": "t"}}}
    via = {"join_authorised_via_users_server": CAROL}
    assert keys({}, event_type="m.room.create") == set()
    assert keys({"membership": "join"}, event_type="m.room.topic") == base
    assert keys({"membership": "join"}, "12") == {POWER_LEVELS, member(ALICE), member(BOB), JOIN_RULES}
    assert keys({"membership": "join", **signed}) == base | {member(BOB), JOIN_RULES}
    assert keys({"membership": "knock"}) == base | {member(BOB), JOIN_RULES}
    assert keys({"membership": "leave", **via}) == base | {member(BOB)}
    assert keys({"membership": "ban"}) == base | {member(BOB)}
    assert keys({"membership": "invite", **signed, **via}) == base | {
        member(BOB),
        JOIN_RULES,
        ("m.room.third_party_invite", "t"),
    }
    assert keys({"membership": "join", **via}) == base | {member(BOB), JOIN_RULES, member(CAROL)}
    assert keys({"membership": "join", **via}, "7") == base | {member(BOB), JOIN_RULES}
    for nonsense in (None, [], {"signed": None}, {"signed": {}}, {"signed": {"token": []}}):
        assert keys({"membership": "invite", "third_party_invite": nonsense}) == base | {member(BOB), JOIN_RULES}


@every_version
def test_rule_4_who_is_of_another_server_stays_out_of_a_room_that_is_not_federated(version: str) -> None:
    scene = Scene(version, {"m.federate": False}).rule("public")
    assert scene.moves(BOB, BOB, "join") is None
    assert scene.moves(CAROL, CAROL, "join") == "4"
    assert Scene(version, {"m.federate": True}).rule("public").moves(CAROL, CAROL, "join") is None


@every_version
def test_rules_5_1_and_5_8_a_membership_is_one_that_the_version_knows(version: str) -> None:
    scene = Scene(version).rule("public")
    assert scene.verdict("m.room.member", BOB, {"membership": "join"}) == "5.1"
    for nonsense in ({}, {"membership": None}, {"membership": ["join"]}):
        assert scene.verdict("m.room.member", BOB, nonsense, BOB) == "5.1"
    assert scene.moves(BOB, BOB, "dance") == "5.8"
    assert scene.moves(BOB, BOB, "knock") == ("5.8" if version == "6" else "5.7.1")


@every_version
def test_rule_5_2_who_lets_a_user_in_has_their_server_sign_it(version: str) -> None:
    scene = Scene(version).rule("public")
    via = {"join_authorised_via_users_server": CAROL}
    refused = "5.2" if version in since("8") else None
    signed = {"signatures": {"two": {"ed25519:1": "AAAA"}}}
    assert scene.moves(BOB, BOB, "join", **via) == refused
    assert scene.verdict("m.room.member", BOB, {"membership": "join", **via}, BOB, **signed) is None
    for nonsense in (None, "two", [CAROL], {}):
        content = {"membership": "join", "join_authorised_via_users_server": nonsense}
        assert scene.verdict("m.room.member", BOB, content, BOB, **signed) == refused


@every_version
def test_rule_5_3_1_the_creator_joins_first(version: str) -> None:
    scene = Scene(version, {"additional_creators": [BOB]})
    scene.state = {CREATE: scene.create}
    first = {"prev_events": ["$create"]}
    joins = {"membership": "join"}
    assert scene.verdict("m.room.member", ALICE, joins, ALICE, **first) is None
    assert scene.verdict("m.room.member", BOB, joins, BOB, **first) == "5.3.4"
    assert scene.verdict("m.room.member", ALICE, joins, ALICE) == "5.3.4"
    assert scene.verdict("m.room.member", ALICE, joins, ALICE, prev_events=["$create", "$more"]) == "5.3.4"


@every_version
def test_rule_5_3_who_joins_by_which_join_rule(version: str) -> None:
    free = ("public",)
    invited = ("invite", *(["knock"] if version in since("7") else []))
    restricted = [
        rule for rule, first in {"restricted": "8", "knock_restricted": "10"}.items() if version in since(first)
    ]
    for rule in ("public", "invite", "knock", "restricted", "knock_restricted", "private", None, ["public"]):
        scene = Scene(version).rule(rule)
        by_membership = {
            membership: scene.joined(BOB, membership=membership).moves(BOB, BOB, "join")
            for membership in ("leave", "invite", "join", "ban")
        }
        otherwise = (
            None if rule in free else "5.3.4" if rule in invited else "5.3.5.2" if rule in restricted else "5.3.7"
        )
        entitled = "5.3.7" if otherwise == "5.3.7" else None
        assert by_membership == {"leave": otherwise, "invite": entitled, "join": entitled, "ban": "5.3.3"}, rule
        assert scene.moves(ALICE, CAROL, "join") == "5.3.2"
    without_rule = Scene(version)
    assert without_rule.moves(BOB, BOB, "join") == "5.3.4"
    assert without_rule.joined(BOB, membership="invite").moves(BOB, BOB, "join") is None


@pytest.mark.parametrize("version", since("8"))
def test_rule_5_3_5_who_lets_a_user_in_is_in_the_room_and_may_invite(version: str) -> None:
    scene = Scene(version, users={CAROL: 50, DAVE: 49}, invite=50).rule("restricted").joined(CAROL, DAVE)

    def joins(authoriser: str) -> str | None:
        signatures = {server: {"ed25519:1": "AAAA"} for server in ("one", "two", "three")}
        content = {"membership": "join", "join_authorised_via_users_server": authoriser}
        return scene.verdict("m.room.member", BOB, content, BOB, signatures=signatures)

    assert joins(CAROL) is None
    assert joins(ALICE) is None
    assert joins(DAVE) == "5.3.5.2"
    assert joins("@nobody:two") == "5.3.5.2"
    scene.joined(CAROL, membership="leave")
    assert joins(CAROL) == "5.3.5.2"


@every_version
def test_rule_5_4_who_is_in_the_room_and_has_the_power_invites(version: str) -> None:
    scene = Scene(version, users={CAROL: 50, DAVE: 49}, invite=50).joined(CAROL, DAVE)
    assert scene.moves(CAROL, BOB, "invite") is None
    assert scene.moves(DAVE, BOB, "invite") == "5.4.5"
    assert scene.moves(BOB, BOB, "invite") == "5.4.2"
    assert scene.moves(CAROL, DAVE, "invite") == "5.4.3"
    assert scene.joined(BOB, membership="ban").moves(CAROL, BOB, "invite") == "5.4.3"
    assert scene.joined(BOB, membership="knock").moves(CAROL, BOB, "invite") is None


@every_version
def test_rule_5_4_1_an_invitation_by_address_holds_by_the_identity_servers_signature(version: str) -> None:
    scene = Scene(version, users_default=0, invite=100)
    keys = {name: key_of(name).verify_key.base64 for name in ("long-term", "ephemeral")}
    invite = {"public_key": keys["long-term"], "public_keys": [{"public_key": key} for key in keys.values()]}
    scene.has("m.room.third_party_invite", invite, "token")

    def verdict(signed: Any, sender: str = ALICE, target: str = BOB) -> str | None:
        return scene.moves(sender, target, "invite", third_party_invite={"display_name": "b…", "signed": signed})

    bare = {"mxid": BOB, "token": "token"}
    for name in keys:
        assert verdict(sign_json(bare, "identity.one", key_of(name))) is None
    twice = sign_json(sign_json(bare, "identity.one", key_of("somebody")), "identity.two", key_of("ephemeral"))
    assert verdict(twice) is None
    good = sign_json(bare, "identity.one", key_of("ephemeral"))
    assert scene.moves(ALICE, BOB, "invite", third_party_invite=None) == "5.4.1.2"
    assert scene.moves(ALICE, BOB, "invite", third_party_invite={}) == "5.4.1.2"
    assert verdict([]) == "5.4.1.2"
    for lacking in ({**good, "token": None}, {"token": "token"}, {"mxid": BOB}, {**good, "token": ["token"]}):
        assert verdict(lacking) == "5.4.1.3"
    assert verdict(good, target=CAROL) == "5.4.1.4"
    assert verdict(sign_json({**bare, "token": "other"}, "identity.one", key_of("ephemeral"))) == "5.4.1.5"
    assert verdict(good, sender=CAROL) == "5.4.1.6"
    assert verdict(bare) == "5.4.1.7"
    assert verdict({**good, "more": 1}) == "5.4.1.7"
    assert verdict(sign_json(bare, "identity.one", key_of("somebody"))) == "5.4.1.7"
    for signatures in (None, [], {"identity.one": None}, {"identity.one": {"ed25519:1": None, "rsa:1": "AAAA"}}):
        assert verdict({**good, "signatures": signatures}) == "5.4.1.7"
    # Whoever invited need not be in the room any more.
    assert (
        scene.joined(ALICE, membership="leave").moves(ALICE, BOB, "invite", third_party_invite={"signed": good}) is None
    )
    assert (
        scene.joined(BOB, membership="ban").moves(ALICE, BOB, "invite", third_party_invite={"signed": good})
        == "5.4.1.1"
    )
    for nonsense in (
        {},
        {"public_key": None, "public_keys": None},
        {"public_key": "A", "public_keys": [None, {}, "x"]},
    ):
        scene.has("m.room.third_party_invite", nonsense, "token").joined(BOB, membership="leave")
        assert verdict(good) == "5.4.1.7"


def test_an_invitation_with_a_thousand_signatures_does_not_keep_us_for_long() -> None:
    scene = Scene("12")
    keys = [{"public_key": key_of(str(number)).verify_key.base64} for number in range(200)]
    scene.has("m.room.third_party_invite", {"public_keys": keys}, "token")
    signatures = {"identity.one": {f"ed25519:{number}": "A" * 86 for number in range(400)}}
    signed = {"mxid": BOB, "token": "token", "signatures": signatures}
    assert scene.moves(ALICE, BOB, "invite", third_party_invite={"signed": signed}) == "5.4.1.7"


@every_version
def test_rule_5_5_users_leave_and_are_kicked_by_the_mightier(version: str) -> None:
    scene = Scene(version, users={BOB: 50, CAROL: 50, DAVE: 60}, kick=50, ban=60).joined(BOB, CAROL, DAVE)
    assert scene.moves(BOB, BOB, "leave") is None
    assert scene.moves(BOB, CAROL, "leave") == "5.5.5"
    assert scene.moves(DAVE, CAROL, "leave") is None
    assert scene.moves(BOB, "@erin:two", "leave") is None
    assert scene.moves("@erin:two", CAROL, "leave") == "5.5.2"
    assert scene.moves("@erin:two", "@erin:two", "leave") == "5.5.1"
    scene.joined(CAROL, membership="ban")
    assert scene.moves(CAROL, CAROL, "leave") == "5.5.1"
    assert scene.moves(BOB, CAROL, "leave") == "5.5.3"
    assert scene.moves(DAVE, CAROL, "leave") is None
    assert scene.joined(CAROL, membership="invite").moves(CAROL, CAROL, "leave") is None
    assert scene.joined(CAROL, membership="knock").moves(CAROL, CAROL, "leave") == ("5.5.1" if version == "6" else None)


@every_version
def test_rule_5_6_users_are_banned_by_the_mightier(version: str) -> None:
    scene = Scene(version, users={BOB: 50, CAROL: 50, DAVE: 60}, ban=50).joined(BOB, CAROL, DAVE)
    assert scene.moves(DAVE, BOB, "ban") is None
    assert scene.moves(BOB, "@stranger:two", "ban") is None
    assert scene.moves(BOB, CAROL, "ban") == "5.6.3"
    assert scene.moves(BOB, BOB, "ban") == "5.6.3"
    assert scene.moves("@stranger:two", BOB, "ban") == "5.6.1"
    assert scene.moves(DAVE, ALICE, "ban") == "5.6.3"


@pytest.mark.parametrize("version", since("7"))
def test_rule_5_7_users_knock_where_they_may_unless_they_are_in_or_banned(version: str) -> None:
    for rule in ("public", "invite", "knock", "restricted", "knock_restricted", None):
        may = rule == "knock" or (rule == "knock_restricted" and version in since("10"))
        scene = Scene(version).rule(rule)
        assert scene.moves(BOB, BOB, "knock") == (None if may else "5.7.1")
        if may:
            assert scene.moves(ALICE, BOB, "knock") == "5.7.2"
            for membership, refused in {
                "ban": True,
                "invite": True,
                "join": True,
                "knock": False,
                "leave": False,
            }.items():
                verdict = scene.joined(BOB, membership=membership).moves(BOB, BOB, "knock")
                assert verdict == ("5.7.4" if refused else None)


@every_version
def test_rules_6_to_9_who_is_in_the_room_and_has_the_power_sends(version: str) -> None:
    levels: dict[str, Any] = {"users": {BOB: 50, CAROL: 49}, "invite": 50}
    scene = Scene(version, events={"m.special": 60}, **levels).joined(BOB, CAROL)
    assert scene.verdict("m.room.message", DAVE, {}) == "6"
    assert scene.verdict("m.room.message", CAROL, {}) is None
    assert scene.verdict("m.room.third_party_invite", BOB, {}, "token") is None
    assert scene.verdict("m.room.third_party_invite", CAROL, {}, "token") == "7"
    assert scene.verdict("m.room.topic", BOB, {}, "") is None
    assert scene.verdict("m.room.topic", CAROL, {}, "") == "8"
    assert scene.verdict("m.special", BOB, {}) == "8"
    assert scene.verdict("m.special", ALICE, {}) is None
    assert scene.verdict("m.own", BOB, {}, BOB) is None
    assert scene.verdict("m.own", BOB, {}, CAROL) == "9"
    assert scene.verdict("m.own", ALICE, {}, "@") == "9"
    # Whether a redaction holds is decided elsewhere.
    assert scene.verdict("m.room.redaction", CAROL, {}) is None
    assert scene.verdict("m.room.aliases", BOB, {}, "two") is None


def change(version: str, sender: str, content: Any, **levels: Any) -> str | None:
    scene = Scene(version, **{"users_default": 0, "events": {"m.room.power_levels": 0}, **levels}).joined(BOB, CAROL)
    current = scene.state[POWER_LEVELS].content
    changed = {name: value for name, value in {**current, **content}.items() if value is not ...}
    return scene.verdict("m.room.power_levels", sender, changed, "")


@every_version
def test_rules_10_1_to_10_3_levels_are_integers(version: str) -> None:
    refused = version in since("10")
    for nonsense in (None, "", "5.5", "fifty", [], {}, True):
        for name, rule in {"ban": "10.1", "users_default": "10.1", "invite": "10.1"}.items():
            assert change(version, ALICE, {name: nonsense}) == rule
        assert change(version, ALICE, {"events": {"m.x": nonsense, "m.room.power_levels": 0}}) == "10.2"
        assert change(version, ALICE, {"users": {ALICE: 100, BOB: nonsense}}) == "10.3"
    for text in ("50", " 50 ", "+50", "-50", "0050"):
        assert change(version, ALICE, {"ban": text}) == ("10.1" if refused else None)
        assert change(version, ALICE, {"notifications": {"room": text}}) == ("10.2" if refused else None)
    for nonsense in (None, [], "x", 5):
        assert change(version, ALICE, {"notifications": nonsense}) == ("10.2" if refused else None)
        assert change(version, ALICE, {"users": nonsense}) == "10.3"
    for name in ("bob", "@bob", ""):
        users = {name: 5} if version == "12" else {ALICE: 100, name: 5}
        assert change(version, ALICE, {"users": users}) == "10.3"


@every_version
def test_rule_10_4_the_power_of_creators_is_not_set_since_version_12(version: str) -> None:
    scene = Scene(version, {"additional_creators": [BOB]}).joined(BOB)
    for user in (ALICE, BOB):
        verdict = scene.verdict("m.room.power_levels", ALICE, {"users": {user: 100}}, "")
        assert verdict == ("10.4" if version == "12" else None)
    assert scene.verdict("m.room.power_levels", ALICE, {"users": {CAROL: 10**9}}, "") is None
    if version == "12":
        assert scene.moves(ALICE, BOB, "leave") == "5.5.5"
        assert scene.verdict("m.room.topic", BOB, {}, "") is None


@every_version
def test_rule_10_nobody_sets_what_is_above_them(version: str) -> None:
    as_bob = {"users": {BOB: 50}}
    for name in ("users_default", "events_default", "state_default", "ban", "redact", "kick", "invite"):
        assert change(version, BOB, {name: 50}, **as_bob) is None
        assert change(version, BOB, {name: 51}, **as_bob) == "10.6.2"
        if name != "users_default":
            assert change(version, BOB, {name: 50}, **{name: 51}, **as_bob) == "10.6.1"
            assert change(version, BOB, {name: ...}, **{name: 51}, **as_bob) == "10.6.1"
            assert change(version, BOB, {name: ...}, **{name: 50}, **as_bob) is None
    own = {"m.room.power_levels": 0}
    for table, entry in {"events": "m.x", "notifications": "room"}.items():
        has = {table: {**own, entry: 51}} if table == "events" else {table: {entry: 51}}
        less = {**has[table], entry: 50}
        assert change(version, BOB, {table: less}, **has, **as_bob) == "10.7.1"
        assert change(version, BOB, {table: own}, **has, **as_bob) == "10.7.1"
        assert change(version, BOB, {table: {**own, "m.y": 51}}, **as_bob) == "10.8.1"
        assert change(version, BOB, {table: {**own, "m.y": 50}}, **as_bob) is None


@every_version
def test_rules_10_9_and_10_10_nobody_raises_or_lowers_those_beside_or_above_them(version: str) -> None:
    alice = {} if version == "12" else {ALICE: 100}
    users = {BOB: 50, CAROL: 50, DAVE: 49}

    def sets(**changes: Any) -> str | None:
        changed = {**alice, **users, **{f"@{name}": level for name, level in changes.items()}}
        return change(
            version, BOB, {"users": {u: level for u, level in changed.items() if level is not ...}}, users=users
        )

    assert sets(**{"dave:three": 50}) is None
    assert sets(**{"dave:three": 51}) == "10.10.1"
    assert sets(**{"dave:three": ...}) is None
    assert sets(**{"bob:one": 10}) is None
    assert sets(**{"bob:one": ...}) is None
    assert sets(**{"bob:one": 51}) == "10.10.1"
    assert sets(**{"carol:two": 49}) == "10.9.1"
    assert sets(**{"carol:two": ...}) == "10.9.1"
    assert sets(**{"erin:two": 50}) is None
    assert sets(**{"erin:two": 51}) == "10.10.1"


@every_version
def test_without_power_levels_the_creator_alone_has_power(version: str) -> None:
    scene = Scene(version).joined(BOB)
    assert scene.verdict("m.room.topic", ALICE, {}, "") is None
    assert scene.verdict("m.room.topic", BOB, {}, "") == "8"
    assert scene.verdict("m.room.message", BOB, {}) is None
    assert scene.moves(ALICE, BOB, "ban") is None
    assert scene.moves(BOB, CAROL, "invite") is None


def test_the_version_says_by_whom_a_room_was_created() -> None:
    """Until version 10 by ``creator``, which need not be the sender."""
    for version in VERSIONS.values():
        scene = Scene(version.identifier)
        content = {"room_version": version.identifier, "creator": BOB}
        create = Event("$create", {**scene.create.pdu, "content": content}, version)
        scene.state[CREATE] = create
        scene.joined(BOB)
        by_content = version.creator_in_content
        assert scene.verdict("m.room.topic", BOB, {}, "") == (None if by_content else "8")
        assert scene.verdict("m.room.topic", ALICE, {}, "") == ("8" if by_content else None)


def test_a_refusal_is_a_403_that_names_the_rule() -> None:
    scene = Scene("12")
    with pytest.raises(NotAllowed, match=r"rule 6") as refused:
        authorise(scene.event("m.room.message", BOB, {}), scene.state)
    assert (refused.value.status, refused.value.errcode) == (403, "M_FORBIDDEN")
