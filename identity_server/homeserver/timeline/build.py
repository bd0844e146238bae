"""Making an event of what one of our users wants to say (Server-Server API, "PDUs")."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from identity_server.homeserver.events.auth_rules import auth_keys
from identity_server.homeserver.events.event import CREATE, Event, StateKey
from identity_server.homeserver.events.hashing import seal
from identity_server.homeserver.events.versions import RoomVersion
from identity_server.homeserver.timeline.room import LockedRoom
from identity_server.homeserver.timeline.timeline import Timeline
from identity_server.matrix.canonical_json import LARGEST_INTEGER

_MOST_PARENTS = 20


@dataclass(frozen=True)
class Draft:
    """An event to be sent. ``sent_by``: the device ID and the transaction ID it was sent with."""

    room_id: str
    type: str
    sender: str
    content: dict[str, Any]
    state_key: str | None = None
    redacts: str | None = None
    sent_by: tuple[str, str] | None = None

    @property
    def key(self) -> StateKey | None:
        return None if self.state_key is None else (self.type, self.state_key)


def needed_keys(draft: Draft, version: RoomVersion) -> set[StateKey]:
    """What of the state the event is authorised by."""
    return {CREATE, *auth_keys(draft.type, draft.sender, draft.state_key, draft.content, version)}


def parents_of(room: LockedRoom) -> dict[str, int]:
    """The forward extremities that the next event names as its parents, with their depths: the deepest twenty."""
    if len(room.extremities) <= _MOST_PARENTS:
        return dict(room.extremities)
    deepest = sorted(room.extremities.items(), key=lambda tip: (-tip[1], tip[0]))
    return dict(deepest[:_MOST_PARENTS])


def build(timeline: Timeline, room: LockedRoom, draft: Draft, state: Mapping[StateKey, Event], *, now_ms: int) -> Event:
    """The event with its parents and auth events (of ``state``), hashed and signed.

    Raises ``InvalidEvent``, of which ``EventTooLarge`` is one.
    """
    pdu = unsigned_pdu(room, draft, state, now_ms=now_ms)
    return seal(pdu, room.version, timeline.server_name, timeline.signing_key)


def unsigned_pdu(room: LockedRoom, draft: Draft, state: Mapping[StateKey, Event], *, now_ms: int) -> dict[str, Any]:
    """The event before it is hashed and signed: also what make_join and its like offer to other servers."""
    parents = parents_of(room)
    wanted = auth_keys(draft.type, draft.sender, draft.state_key, draft.content, room.version)
    pdu: dict[str, Any] = {
        "room_id": room.room_id,
        "type": draft.type,
        "sender": draft.sender,
        "content": draft.content,
        "depth": min(max(parents.values(), default=0) + 1, LARGEST_INTEGER),
        "prev_events": list(parents),
        "auth_events": [event.event_id for key, event in state.items() if key in wanted],
        "origin_server_ts": now_ms,
    }
    if draft.state_key is not None:
        pdu["state_key"] = draft.state_key
    if draft.redacts is not None:
        if room.version.redacts_in_content:
            pdu["content"] = {**draft.content, "redacts": draft.redacts}
        else:
            pdu["redacts"] = draft.redacts
    if draft.type == CREATE[0] and room.version.room_id_is_create_event_id:
        del pdu["room_id"]
    return pdu
