"""Whether what was received is an event, and its sender's (Server-Server API, "Checks performed on receipt of a PDU").

Checks 1 to 3, which need nothing of the room but its version; for many events at once, as a join brings them.
"""

import asyncio
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from identity_server.homeserver.events.event import Event
from identity_server.homeserver.events.format import InvalidEvent
from identity_server.homeserver.events.hashing import has_right_content_hash
from identity_server.homeserver.events.reading import read_event
from identity_server.homeserver.events.redaction import redact, redact_event
from identity_server.homeserver.events.signatures import required_signers
from identity_server.homeserver.events.versions import RoomVersion
from identity_server.homeserver.federation.keyring import KeyNeeded, KeyRing
from identity_server.matrix.signing import ALGORITHM, InvalidSignature, VerifyKey, verify_json

# So many are checked in one go: larger lots go to threads, so that others are served meanwhile.
_LOT = 100


class BadSignature(Exception):
    """A signature that the event needs is missing or wrong."""


@dataclass(frozen=True)
class Checked:
    """``dropped``: why an event was not taken, by its ID, where it has one that far."""

    events: dict[str, Event]
    dropped: dict[str, str]


async def check_event(key_ring: KeyRing, pdu: Any, version: RoomVersion) -> Event:
    """The event that ``pdu`` is, redacted if its hash is wrong. Raises ``InvalidEvent`` and ``BadSignature``."""
    event = read_event(pdu, version)
    keys = await key_ring.event_keys(_needed(event))
    return _verified(event, keys)


async def check_events(
    key_ring: KeyRing,
    pdus: Iterable[Any],
    version: RoomVersion,
    *,
    room_id: str,
    known: Container[str] = (),
) -> Checked:
    """All of ``pdus`` that are events of the room, each once, in their order; without those that are ``known``."""
    checked = Checked({}, {})
    read: dict[str, Event] = {}
    for lot in _lots(list(pdus)):
        for event in await _aside(_read, lot, version):
            if event.event_id in known:
                continue
            if event.room_id == room_id:
                read[event.event_id] = event
            else:
                checked.dropped[event.event_id] = "The event is of another room"
    keys = await key_ring.event_keys(needed for event in read.values() for needed in _needed(event))
    for lot in _lots(list(read.values())):
        for event, verified in zip(lot, await _aside(_verify, lot, keys), strict=True):
            if isinstance(verified, Event):
                checked.events[event.event_id] = verified
            else:
                checked.dropped[event.event_id] = verified
    return checked


def in_order(events: Mapping[str, Event], *, by_auth: bool = False) -> list[Event]:
    """Each after those of ``events`` that it builds on; otherwise by depth. Where they go in circles: by depth too.

    ``by_auth``: what they build on are their auth events, and not their parents.
    """
    ordered: dict[str, Event] = {}
    begun: set[str] = set()
    for start in sorted(events.values(), key=lambda event: (event.depth, event.event_id)):
        pending = [start]
        while pending:
            event = pending[-1]
            before = event.auth_events if by_auth else event.prev_events
            if event.event_id not in begun:
                begun.add(event.event_id)
                pending.extend(events[other] for other in before if other in events and other not in begun)
            else:
                pending.pop()
                ordered.setdefault(event.event_id, event)
    return list(ordered.values())


def _read(pdus: Sequence[Any], version: RoomVersion) -> list[Event]:
    """1. Those that are valid events."""
    events = []
    for pdu in pdus:
        try:
            events.append(read_event(pdu, version))
        except InvalidEvent:
            continue
    return events


def _verify(events: Sequence[Event], keys: Mapping[KeyNeeded, VerifyKey]) -> list[Event | str]:
    verified: list[Event | str] = []
    for event in events:
        try:
            verified.append(_verified(event, keys))
        except BadSignature as error:
            verified.append(str(error))
    return verified


def _verified(event: Event, keys: Mapping[KeyNeeded, VerifyKey]) -> Event:
    """2. Raises ``BadSignature``. 3. An event with a wrong hash is taken for what is left of it when redacted."""
    redacted = redact(event.pdu, event.version)
    for signer in required_signers(event):
        known = [keys[needed] for needed in _needed_of(event, signer) if needed in keys]
        if not known:
            raise BadSignature(f"No signature of {signer} with a key that it had then")
        for key in known:
            try:
                verify_json(redacted, signer, key)
            except InvalidSignature as error:
                raise BadSignature(f"{signer}: {error}") from error
    return event if has_right_content_hash(event) else redact_event(event)


def _needed(event: Event) -> Iterator[KeyNeeded]:
    for signer in required_signers(event):
        yield from _needed_of(event, signer)


def _needed_of(event: Event, signer: str) -> Iterator[KeyNeeded]:
    for key_id in event.pdu["signatures"].get(signer, {}):
        if key_id.startswith(f"{ALGORITHM}:") and "\0" not in key_id:
            yield KeyNeeded(signer, key_id, event.origin_server_ts)


def _lots(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), _LOT):
        yield items[start : start + _LOT]


async def _aside(work: Any, lot: Sequence[Any], *arguments: Any) -> Any:
    if len(lot) < _LOT:
        return work(lot, *arguments)
    return await asyncio.to_thread(work, lot, *arguments)
