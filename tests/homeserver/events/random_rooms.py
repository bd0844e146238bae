"""Rooms that fork at random, in which people do at random what they may and what they may not.

What happens is drawn from a ``random.Random``: of a seed, or of Hypothesis, which then finds the least room that shows
something.
"""

import hashlib
from collections.abc import Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, TypeVar

from identity_server.homeserver.events.auth_rules import NotAllowed, auth_keys, authorise, check_auth_events
from identity_server.homeserver.events.event import CREATE, POWER_LEVELS, Event, StateKey, StateMap, member
from identity_server.homeserver.events.hashing import countersign, seal
from identity_server.homeserver.events.state_resolution import resolve
from identity_server.homeserver.events.versions import RoomVersion
from identity_server.matrix.identifiers import domain_of
from identity_server.matrix.signing import SigningKey, sign_json

T = TypeVar("T")

ALICE, BOB, CAROL, DAVE, ERIN = "@alice:one", "@bob:one", "@carol:two", "@dave:three", "@erin:two"
USERS = (ALICE, BOB, CAROL, DAVE, ERIN)
LEVELS = (-1, 0, 1, 25, 49, 50, 51, 75, 99, 100, 100, 101)
NAMED_LEVELS = ("users_default", "events_default", "state_default", "ban", "redact", "kick", "invite")
TYPES = ("m.room.name", "m.room.topic", "m.room.power_levels", "m.room.join_rules", "m.room.member", "m.room.message")
NONSENSE: tuple[Any, ...] = (None, "fifty", [], {}, "50 0", [50])
RULES = ("public", "invite", "knock", "restricted", "knock_restricted", "private")


def key_of(name: str) -> SigningKey:
    """The key of a server, or of an identity server."""
    return SigningKey.from_seed("ed25519:1", hashlib.sha256(name.encode()).digest())


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs what waits for nothing but its turn."""
    while True:
        try:
            coroutine.send(None)
        except StopIteration as done:
            result: T = done.value
            return result


@dataclass
class Known:
    """A source of events that are all at hand; it counts what it is asked for."""

    known: Mapping[str, Event]
    asked: set[str] = field(default_factory=set)

    async def events(self, ids: Collection[str]) -> Mapping[str, Event]:
        self.asked.update(ids)
        return {event_id: self.known[event_id] for event_id in ids if event_id in self.known}


@dataclass
class Verdict:
    """What was found of an event, with the state before it."""

    event: Event
    state: StateMap
    allowed: bool


class RandomRoom:
    """``version`` and all that happens are given; ``events`` are in the order in which they came to be."""

    def __init__(self, version: RoomVersion, random: Random, *, nonsense: float = 0.03) -> None:
        self.version = version
        self.random = random
        self.nonsense = nonsense
        self.events: dict[str, Event] = {}
        self.after: dict[str, StateMap] = {}
        self.verdicts: list[Verdict] = []
        self.tips: list[str] = []
        self._ts = 1_000
        self._tokens: list[str] = []
        self._is_federated = True
        self._begin()

    # What it is made of

    def resolve(self, states: Sequence[StateMap]) -> dict[StateKey, str]:
        return drive(resolve(self.version, states, Known(self.events)))

    def state_of(self, ids: StateMap) -> dict[StateKey, Event]:
        return {key: self.events[event_id] for key, event_id in ids.items()}

    @property
    def room_id(self) -> str:
        return next(iter(self.events.values())).room_id

    def some(self, of: Sequence[T]) -> T:
        return self.random.choice(of)

    def perhaps(self, probability: float) -> bool:
        return self.random.random() < probability

    def grow(self, steps: int, only: Sequence[str] = ()) -> "RandomRoom":
        for _ in range(steps):
            self.step(only)
        return self

    def step(self, only: Sequence[str] = ()) -> Event:
        """One more event, by one of ``only``, after one or a few that stand at the tips or anywhere."""
        whence = self.tips if self.perhaps(0.75) else list(self.after)
        parents = sorted({self.some(whence) for _ in range(self.some((1, 1, 1, 2, 2, 3)))})
        before = self.resolve([self.after[parent] for parent in parents])
        state = self.state_of(before)
        sender, action = self.some(only) if only else self._who(state), self._what(state)
        draft = {"sender": sender, **action(sender, state)}
        return self.send({**draft, "sender": sender} if only else draft, parents, before)

    def settle(self) -> StateMap:
        """Leaves all forks but the last, from whose state, which is returned, everything goes on."""
        tip = self.tips[-1]
        self.tips, self.after = [tip], {tip: self.after[tip]}
        return self.after[tip]

    def send(self, draft: Mapping[str, Any], parents: Sequence[str], before: StateMap) -> Event:
        """Seals the event, judges it and, if it is allowed, has it change the state."""
        state = self.state_of(before)
        pdu = {
            "room_id": self.room_id,
            "depth": 1 + max(self.events[parent].depth for parent in parents),
            "origin_server_ts": self._now(),
            "prev_events": list(parents),
            "auth_events": self._cited(draft, state),
            **draft,
        }
        event = self._sealed(pdu)
        if event.event_id in self.events:
            return event
        allowed = self._is_allowed(event, state)
        self.verdicts.append(Verdict(event, before, allowed))
        if allowed:
            self._add(event, {**before, event.key: event.event_id} if event.is_state else before)
        elif self.perhaps(0.3):
            # It is no part of the state, but may be named as a parent, or wrongly be cited.
            self.events[event.event_id] = replace(event, rejected=True)
            self.after[event.event_id] = before
        return event

    def _add(self, event: Event, after: StateMap) -> None:
        self.events[event.event_id] = event
        self.after[event.event_id] = after
        self.tips = [tip for tip in self.tips if tip not in event.prev_events or self.perhaps(0.15)]
        self.tips.append(event.event_id)

    def _sealed(self, pdu: dict[str, Any]) -> Event:
        server = domain_of(pdu["sender"])
        event = seal(pdu, self.version, server, key_of(server))
        authoriser = event.content.get("join_authorised_via_users_server")
        if authoriser in USERS and self.perhaps(0.9):
            event = countersign(event, domain_of(authoriser), key_of(domain_of(authoriser)))
        return event

    def _cited(self, draft: Mapping[str, Any], state: Mapping[StateKey, Event]) -> list[str]:
        keys = auth_keys(draft["type"], draft["sender"], draft.get("state_key"), draft["content"], self.version)
        cited = sorted(state[key].event_id for key in keys if key in state)
        if self.perhaps(self.nonsense) and cited:
            # The first is m.room.create: Synapse knows no event that cites it in version 12.
            others = list(self.events)[self.version.room_id_is_create_event_id :]
            return self.some((cited[1:], [*cited, self.some(others)], [*cited, self.some(cited)]))
        return cited

    def _is_allowed(self, event: Event, state: Mapping[StateKey, Event]) -> bool:
        cited = [self.events[event_id] for event_id in event.auth_events]
        own = {auth_event.key: auth_event for auth_event in cited if auth_event.is_state}
        if self.version.room_id_is_create_event_id:
            own[CREATE] = state[CREATE]
        try:
            check_auth_events(event, cited)
            authorise(event, own)
            authorise(event, state)
        except NotAllowed:
            return False
        return True

    def _now(self) -> int:
        self._ts += self.some((0, 0, 1, 5, -3))
        return self._ts

    # What happens

    def _begin(self) -> None:
        create: dict[str, Any] = {"room_version": self.version.identifier}
        if self.version.creator_in_content:
            create["creator"] = ALICE
        if self.version.privileged_creators and self.perhaps(0.3):
            create["additional_creators"] = [BOB]
        if self.perhaps(0.1):
            self._is_federated = create["m.federate"] = self.perhaps(0.3)
        pdu = {
            "type": "m.room.create",
            "state_key": "",
            "sender": ALICE,
            "content": create,
            "depth": 1,
            "origin_server_ts": self._ts,
            "prev_events": [],
            "auth_events": [],
        }
        if not self.version.room_id_is_create_event_id:
            pdu["room_id"] = f"!{self.random.randrange(10**9)}:one"
        event = seal(pdu, self.version, "one", key_of("one"))
        self.verdicts.append(Verdict(event, {}, True))
        self._add(event, {event.key: event.event_id})
        self._then(ALICE, _membership(ALICE, "join"))
        if self.perhaps(0.9):
            self._then(ALICE, _state("m.room.power_levels", self._first_levels()))
        if self.perhaps(0.9):
            self._then(ALICE, _state("m.room.join_rules", {"join_rule": self.some(("public", "public", *RULES))}))
        for user in USERS[1 : self.some((1, 2, 3, 4))]:
            self._then(user, _membership(user, "join"))

    def _then(self, sender: str, draft: Mapping[str, Any]) -> None:
        tip = self.tips[-1]
        self.send({"sender": sender, **draft}, [tip], self.after[tip])

    def _first_levels(self) -> dict[str, Any]:
        users = {user: self.some((0, 50, 99, 100)) for user in USERS[1 : self.some((1, 2, 3))]}
        if not self.version.privileged_creators:
            users[ALICE] = 100
        elif self.perhaps(0.3):
            users.pop(BOB, None)
        return {"users": users, **{name: self.some((0, 25, 50, 50, 75)) for name in NAMED_LEVELS if self.perhaps(0.3)}}

    def _who(self, state: Mapping[StateKey, Event]) -> str:
        joined = [user for user in USERS if (event := state.get(member(user))) and event.membership == "join"]
        return self.some(joined) if joined and self.perhaps(0.75) else self.some(USERS)

    def _target(self) -> str:
        # In a room that is not federated, Synapse lets nobody invite, kick or ban users of other servers; the
        # specification speaks of the sender only.
        return self.some(USERS if self._is_federated else (ALICE, BOB))

    def _what(self, state: Mapping[StateKey, Event]) -> Any:
        weighted = {
            self._come_or_go: 6,
            self._move_another: 6,
            self._give_power: 5,
            self._change_rules: 2,
            self._invite_by_address: 1,
            **({self._take_up_invitation: 2} if self._tokens else {}),
            self._change_something: 3,
            self._say: 1,
        }
        return self.random.choices(list(weighted), list(weighted.values()))[0]

    def _come_or_go(self, sender: str, state: Mapping[StateKey, Event]) -> dict[str, Any]:
        membership = self.some(("join", "join", "join", "leave", "knock"))
        content: dict[str, Any] = {"membership": membership, "displayname": str(self.random.randrange(1000))}
        if membership == "join" and self.perhaps(0.5):
            content["join_authorised_via_users_server"] = self.some(USERS)
        if self.perhaps(self.nonsense):
            content["membership"] = self.some(("dance", *NONSENSE))
        return {"type": "m.room.member", "state_key": sender, "content": content}

    def _move_another(self, sender: str, state: Mapping[StateKey, Event]) -> dict[str, Any]:
        return _membership(self._target(), self.some(("invite", "invite", "leave", "leave", "ban", "ban", "join")))

    def _give_power(self, sender: str, state: Mapping[StateKey, Event]) -> dict[str, Any]:
        current = state.get(POWER_LEVELS)
        content: dict[str, Any] = {**current.content} if current else {}
        for table, names in (("users", USERS), ("events", TYPES), ("notifications", ("room",)), ("", NAMED_LEVELS)):
            if not self.perhaps(0.5):
                continue
            name = self.some(names)
            before = content.get(table)
            changed = content if not table else {**before} if isinstance(before, Mapping) else {}
            if self.perhaps(0.2):
                changed.pop(name, None)
            else:
                changed[name] = self._level()
            if table:
                content[table] = changed
        if self.perhaps(self.nonsense):
            content[self.some(("users", "events", "notifications"))] = self.some(NONSENSE)
        return _state("m.room.power_levels", content)

    def _level(self) -> Any:
        level = self.some(LEVELS)
        if self.perhaps(self.nonsense):
            return self.some(NONSENSE)
        return self.some((f" {level} ", f"{level:+05}")) if self.perhaps(0.05) else level

    def _change_rules(self, sender: str, state: Mapping[StateKey, Event]) -> dict[str, Any]:
        rule = self.some(NONSENSE) if self.perhaps(self.nonsense) else self.some(RULES)
        return _state("m.room.join_rules", {} if self.perhaps(0.05) else {"join_rule": rule, "allow": []})

    def _invite_by_address(self, sender: str, state: Mapping[StateKey, Event]) -> dict[str, Any]:
        token = f"token{len(self._tokens)}"
        self._tokens.append(token)
        keys = [key_of(f"{name} {token}").verify_key.base64 for name in ("identity", "ephemeral")]
        content = {"display_name": "…", "public_key": keys[0], "public_keys": [{"public_key": key} for key in keys]}
        return _state("m.room.third_party_invite", content, token)

    def _take_up_invitation(self, sender: str, state: Mapping[StateKey, Event]) -> dict[str, Any]:
        token, user = self.some(self._tokens), self._target()
        invite = state.get(("m.room.third_party_invite", token))
        signed: dict[str, Any] = {"mxid": user if self.perhaps(0.9) else self.some(USERS), "token": token}
        signed = sign_json(signed, "identity", key_of(f"{self.some(('identity', 'ephemeral', 'other'))} {token}"))
        if self.perhaps(self.nonsense):
            signed.pop(self.some(list(signed)))
        content = {"membership": "invite", "third_party_invite": {"display_name": "…", "signed": signed}}
        draft = {"type": "m.room.member", "state_key": user, "content": content}
        return {**draft, "sender": invite.sender} if invite and self.perhaps(0.9) else draft

    def _change_something(self, sender: str, state: Mapping[StateKey, Event]) -> dict[str, Any]:
        state_key = self.some(("", "", sender, self.some(USERS)))
        return _state(self.some(("m.room.name", "m.room.topic", "m.room.tombstone")), {"a": self._ts}, state_key)

    def _say(self, sender: str, state: Mapping[StateKey, Event]) -> dict[str, Any]:
        return {"type": self.some(("m.room.message", "m.room.redaction")), "content": {"body": str(self._ts)}}


def _state(event_type: str, content: Mapping[str, Any], state_key: str = "") -> dict[str, Any]:
    return {"type": event_type, "state_key": state_key, "content": dict(content)}


def _membership(user: str, membership: str) -> dict[str, Any]:
    return _state("m.room.member", {"membership": membership}, user)
