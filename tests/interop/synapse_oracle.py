"""What Synapse makes of rooms: run by a Python that has it, ``python synapse_oracle.py``; our package is not needed.

Reads a room a line, as JSON, and answers with a line: see ``judge``. Of Synapse, the authorisation rules, the redaction
algorithm, the hashes and state resolution are asked; graphs are looked at here, by sets, as the definitions read.
"""

import asyncio
import hashlib
import json
import sys

from synapse.api.errors import AuthError, SynapseError
from synapse.api.room_versions import KNOWN_ROOM_VERSIONS
from synapse.crypto.event_signing import compute_content_hash
from synapse.event_auth import (
    auth_types_for_event,
    check_state_dependent_auth_rules,
    check_state_independent_auth_rules,
    validate_event_for_room_version,
)
from synapse.events import make_event_from_dict
from synapse.events.utils import prune_event
from synapse.state.v2 import resolve_events_with_store
from synapse.storage.databases.main.event_federation import StateDifference
from unpaddedbase64 import encode_base64

BROKEN = "broken"
"""An answer begins with it if Synapse does not refuse but trips."""


class Store:
    """The events of one room."""

    def __init__(self, events):
        self.known = events

    async def get_events(self, event_ids, *_args, **_options):
        return {event_id: self.known[event_id] for event_id in event_ids if event_id in self.known}

    async def get_auth_chain_difference(self, room_id, state_sets, conflicted, *_more):
        chains = [self.chain(state) for state in state_sets]
        subgraph = None
        if conflicted is not None:
            reachable = self.chain(conflicted)
            subgraph = {event_id for event_id in reachable if self.chain([event_id]) & conflicted}
        return StateDifference(set.union(*chains) - set.intersection(*chains), subgraph)

    def chain(self, event_ids):
        """The auth chain, the events themselves included."""
        chain, pending = set(), list(event_ids)
        while pending:
            event_id = pending.pop()
            if event_id in self.known and event_id not in chain:
                chain.add(event_id)
                pending.extend(self.known[event_id].auth_event_ids())
        return chain


class Clock:
    async def sleep(self, _duration):
        pass


async def judge(room):
    """``room``: its ``version``, ``room_id``, ``events`` (PDUs, in order), ``states`` before each (by number), what is
    ``rejected`` (by number), and lists of ``forks``: states, as [type, state key, number].

    The answer has by event its ID, its redacted form, its content hash, what it should cite, and its verdicts: by its
    own auth events, and by the state (null is good, else why not); and by fork what it resolves to, or why nothing.
    """
    version = KNOWN_ROOM_VERSIONS[room["version"]]
    rejected = dict.fromkeys(room["rejected"], "auth_error")
    events = [
        make_event_from_dict(pdu, version, rejected_reason=rejected.get(number))
        for number, pdu in enumerate(room["events"])
    ]
    known = {event.event_id: event for event in events}
    store = Store(known)
    judged = []
    for event, state in zip(events, room["states"], strict=True):
        own = [known[event_id] for event_id in event.auth_event_ids()]
        before = [events[number] for number in state]
        judged.append(
            {
                "event_id": event.event_id,
                "redacted": {
                    name: value for name, value in prune_event(event).get_pdu_json().items() if name != "unsigned"
                },
                "content_hash": encode_base64(compute_content_hash(event.get_pdu_json(), hashlib.sha256)[1]),
                "auth_keys": _auth_keys(version, event),
                "by_auth_events": await _why_not(_check_all(store, event, own)),
                "by_state": await _why_not(_check_all(store, event, before)),
            }
        )
    resolved = []
    for fork in room["forks"]:
        states = [{(type_, key): events[number].event_id for type_, key, number in state} for state in fork]
        try:
            found = await resolve_events_with_store(Clock(), room["room_id"], version, states, None, store)
            resolved.append(sorted([*key, event_id] for key, event_id in found.items()))
        except Exception as error:  # that of a rule which an event of the wrong form breaks
            resolved.append(f"{BROKEN}: {type(error).__name__}: {error}")
    return {"events": judged, "resolved": resolved}


def _auth_keys(version, event):
    try:
        return sorted(auth_types_for_event(version, event))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


async def _check_all(store, event, state):
    validate_event_for_room_version(event)
    await check_state_independent_auth_rules(store, event)
    check_state_dependent_auth_rules(event, state)


async def _why_not(checks):
    try:
        await checks
    except (AuthError, SynapseError) as error:
        return error.msg
    except Exception as error:  # as above
        return f"{BROKEN}: {type(error).__name__}: {error}"
    return None


def main():
    loop = asyncio.new_event_loop()
    _say("ready")
    for line in sys.stdin:
        _say(json.dumps(loop.run_until_complete(judge(json.loads(line)))))


def _say(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
