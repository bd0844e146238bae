"""An event: what servers tell each other, and what it is called."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from identity_server.homeserver.events.versions import RoomVersion
from identity_server.matrix.identifiers import domain_of

StateKey = tuple[str, str]
"""The type and the state key."""

StateMap = Mapping[StateKey, str]
"""A room's state, as event IDs."""

CREATE: StateKey = ("m.room.create", "")
POWER_LEVELS: StateKey = ("m.room.power_levels", "")
JOIN_RULES: StateKey = ("m.room.join_rules", "")


def member(user_id: str) -> StateKey:
    """Where a user's membership stands in the state."""
    return ("m.room.member", user_id)


@dataclass(frozen=True, slots=True)
class Event:
    """An event in the format of federation, of the right format (``reading.py`` has checked it; storage kept it so).

    ``pdu`` holds ``hashes`` and ``signatures``, and no ``unsigned``. ``rejected``: the event is known to have failed
    the authorisation rules on receipt, so that state resolution does not rest on it.
    """

    event_id: str
    pdu: Mapping[str, Any]
    version: RoomVersion
    rejected: bool = False

    @property
    def room_id(self) -> str:
        if self.version.room_id_is_create_event_id and self.type == "m.room.create":
            return "!" + self.event_id[1:]
        return str(self.pdu["room_id"])

    @property
    def type(self) -> str:
        return str(self.pdu["type"])

    @property
    def sender(self) -> str:
        return str(self.pdu["sender"])

    @property
    def state_key(self) -> str | None:
        """``None`` for an event that is no state."""
        return self.pdu.get("state_key")

    @property
    def is_state(self) -> bool:
        return "state_key" in self.pdu

    @property
    def key(self) -> StateKey:
        """Of a state event only."""
        return (self.pdu["type"], self.pdu["state_key"])

    @property
    def content(self) -> Mapping[str, Any]:
        content: Mapping[str, Any] = self.pdu["content"]
        return content

    @property
    def depth(self) -> int:
        return int(self.pdu["depth"])

    @property
    def origin_server_ts(self) -> int:
        return int(self.pdu["origin_server_ts"])

    @property
    def prev_events(self) -> tuple[str, ...]:
        return tuple(self.pdu["prev_events"])

    @property
    def auth_events(self) -> tuple[str, ...]:
        return tuple(self.pdu["auth_events"])

    @property
    def cited(self) -> tuple[str, ...]:
        """``auth_events``, and ``m.room.create`` also where, from room version 12 on, only the room ID names it."""
        cited: list[str] = self.pdu["auth_events"]
        if self.version.room_id_is_create_event_id and self.type != "m.room.create":
            return (*cited, "$" + self.room_id[1:])
        return tuple(cited)

    @property
    def membership(self) -> str | None:
        """What an ``m.room.member`` event says, if it says it with a string."""
        if self.type != "m.room.member":
            return None
        membership = self.content.get("membership")
        return membership if isinstance(membership, str) else None

    @property
    def redacts(self) -> str | None:
        """The ID of the event that an ``m.room.redaction`` is about."""
        if self.type != "m.room.redaction":
            return None
        redacts = (self.content if self.version.redacts_in_content else self.pdu).get("redacts")
        return redacts if isinstance(redacts, str) else None

    @property
    def sender_server(self) -> str:
        """The server of the user who sent it."""
        return domain_of(self.sender)
