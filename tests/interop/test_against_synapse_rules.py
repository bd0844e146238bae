"""Our authorisation rules, redactions, hashes and state resolution against Synapse's, on rooms that fork at random.

``SYNAPSE_ROOMS=5000 pytest tests/interop/test_against_synapse_rules.py`` tries as many rooms, ``SYNAPSE_FIRST_ROOM``
says which is the first; a difference names its room, so that it can be looked at alone. ``--log-cli-level=INFO`` has
it say how much was compared.

Known to differ, and therefore not drawn:

- In a room that is not federated, Synapse also refuses members of other servers as targets; rule 4 has senders only.
- In ``m.federate`` Synapse takes what is not ``true`` for ``false``; before room version 10, booleans for levels.
- Synapse asks for the authorising server's signature on joins only; rule 5.2 does for any membership.
- Power levels with a state key of their own are compared by Synapse with nothing, by us with those that hold (10.6).
- What was rejected stays out of the state for Synapse; by "Rejected events" state resolution may let it in.
- Synapse trips over levels and tables of the wrong type, and so over all that comes after; those answers are left out.

Where we do as Synapse does, and not quite as the specification: see ``state_resolution.py`` and ``auth_chains.py``.
"""

import json
import logging
import os
import subprocess
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest

from benchmarks.synapse import synapse_python
from identity_server.homeserver.events.auth_rules import NotAllowed, auth_keys, authorise, check_auth_events
from identity_server.homeserver.events.event import CREATE, Event, StateMap
from identity_server.homeserver.events.hashing import content_hash
from identity_server.homeserver.events.redaction import redact
from identity_server.homeserver.events.versions import VERSIONS
from tests.homeserver.events.random_rooms import RandomRoom

log = logging.getLogger(__name__)

ROOMS = int(os.environ.get("SYNAPSE_ROOMS", "250"))
FIRST_ROOM = int(os.environ.get("SYNAPSE_FIRST_ROOM", "0"))
STEPS = 30
FORKS = 12

SYNAPSE_PYTHON = synapse_python()
pytestmark = [
    pytest.mark.skipif(SYNAPSE_PYTHON is None, reason="needs Synapse: SYNAPSE_PYTHON, or tests/interop/.synapse"),
    pytest.mark.timeout(max(180, ROOMS // 4)),
]


class Oracle:
    def __init__(self) -> None:
        # Isolated, so that `synapse` is not the module beside the script.
        command = [str(SYNAPSE_PYTHON), "-I", str(Path(__file__).with_name("synapse_oracle.py"))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def judge(self, room: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(room) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "Synapse's part has broken off: see what it wrote"
        return json.loads(answer)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def oracle() -> Iterator[Oracle]:
    oracle = Oracle()
    yield oracle
    oracle.close()


class Room:
    """A random room, by its number, and the forks in it that are to be resolved."""

    def __init__(self, number: int) -> None:
        versions = list(VERSIONS.values())
        self.number = number
        self.random = Random(number)
        self.room = RandomRoom(versions[number % len(versions)], self.random).grow(STEPS)
        self.numbers = {verdict.event.event_id: n for n, verdict in enumerate(self.room.verdicts)}
        self.forks = [self._fork() for _ in range(FORKS)]

    def _fork(self) -> list[StateMap]:
        states = [
            self.room.after[self.random.choice(list(self.room.after))] for _ in range(self.random.choice((2, 2, 3, 4)))
        ]
        if self.random.random() < 0.1:
            # As if another server had told us wrongly.
            lacking = self.random.random()
            states[0] = {key: event_id for key, event_id in states[0].items() if self.random.random() > lacking}
        return states

    def for_oracle(self) -> Any:
        def numbered(state: StateMap) -> list[list[Any]]:
            return [[*key, self.numbers[event_id]] for key, event_id in state.items()]

        return {
            "version": self.room.version.identifier,
            "room_id": self.room.room_id,
            "events": [verdict.event.pdu for verdict in self.room.verdicts],
            "states": [[self.numbers[event_id] for event_id in v.state.values()] for v in self.room.verdicts],
            "rejected": [self.numbers[event.event_id] for event in self.room.events.values() if event.rejected],
            "forks": [[numbered(state) for state in fork] for fork in self.forks],
        }


def test_synapse_and_we_come_to_the_same_in_every_room(oracle: Oracle) -> None:
    counted: Counter[str] = Counter()
    differences: list[str] = []
    with ThreadPoolExecutor(1) as pool:
        asked: deque[tuple[Room, Any]] = deque()
        for number in range(FIRST_ROOM, FIRST_ROOM + ROOMS + 2):
            if number < FIRST_ROOM + ROOMS:
                room = Room(number)
                asked.append((room, pool.submit(oracle.judge, room.for_oracle())))
            if len(asked) > 2 or number >= FIRST_ROOM + ROOMS:
                differences += _compare(*_answered(asked), counted) if asked else []
    log.info("compared in %d rooms: %s", ROOMS, dict(counted))
    assert not differences, f"{len(differences)} differences:\n" + "\n".join(differences[:20])


def _answered(asked: deque[tuple[Room, Any]]) -> tuple[Room, Any]:
    room, future = asked.popleft()
    return room, future.result()


def _compare(room: Room, answer: Any, counted: Counter[str]) -> Iterator[str]:
    where = f"room {room.number}, version {room.room.version.identifier}"
    for verdict, judged in zip(room.room.verdicts, answer["events"], strict=True):
        event = verdict.event
        for what, ours, theirs in _of_event(room, event, verdict.state, judged):
            counted[what] += 1
            if ours != theirs:
                why = f"{judged['by_auth_events']}; {judged['by_state']}"
                yield f"{where}, {what}: ours is {ours}, theirs {theirs} ({why}): {dict(event.pdu)}"
    for number, (fork, theirs) in enumerate(zip(room.forks, answer["resolved"], strict=True)):
        if isinstance(theirs, str):
            assert theirs.startswith("broken")
            continue
        counted["resolution"] += 1
        ours = sorted([*key, event_id] for key, event_id in room.room.resolve(fork).items())
        if ours != theirs:
            yield f"{where}, fork {number}: ours is {ours}, theirs {theirs}"


def _of_event(room: Room, event: Event, state: StateMap, judged: Any) -> Iterator[tuple[str, Any, Any]]:
    version, known = room.room.version, room.room.events
    yield "event ID", event.event_id, judged["event_id"]
    yield "redacted", redact(event.pdu, version), judged["redacted"]
    yield "content hash", content_hash(event.pdu), judged["content_hash"]
    own = {known[cited].key: cited for cited in event.auth_events if known[cited].is_state}
    implied = set()
    if version.room_id_is_create_event_id and event.prev_events:
        implied.add(CREATE)  # Synapse has it among the others
        own[CREATE] = state[CREATE]
    if not isinstance(judged["auth_keys"], str):
        keys = auth_keys(event.type, event.sender, event.state_key, event.content, version) | implied
        yield "auth keys", keys, {(type_, key) for type_, key in judged["auth_keys"]}
    for what, verdict, ours in (
        ("by auth events", judged["by_auth_events"], own),
        ("by state", judged["by_state"], state),
    ):
        if not (verdict or "").startswith("broken"):
            yield what, _is_allowed(room, event, ours), verdict is None


def _is_allowed(room: Room, event: Event, state: StateMap) -> bool:
    try:
        check_auth_events(event, [room.room.events[event_id] for event_id in event.auth_events])
        authorise(event, room.room.state_of(state))
    except NotAllowed:
        return False
    return True
