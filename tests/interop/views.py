"""What a client knows by /sync: nothing else is asked for it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]


@dataclass
class RoomView:
    """``membership`` is the section of the answer that the room was in last."""

    membership: str = ""
    timeline: list[Json] = field(default_factory=list)
    state: dict[tuple[str, str], Json] = field(default_factory=dict)
    typing: list[str] = field(default_factory=list)
    receipts: dict[str, dict[str, Json]] = field(default_factory=dict)
    """By event, by user, for ``m.read``."""
    account_data: dict[str, Json] = field(default_factory=dict)

    def event(self, event_id: str) -> Json | None:
        return next((event for event in self.timeline if event["event_id"] == event_id), None)

    def content(self, event_type: str, state_key: str = "") -> Json:
        event = self.state.get((event_type, state_key))
        return event["content"] if event else {}

    def membership_of(self, user_id: str) -> str | None:
        return self.content("m.room.member", user_id).get("membership")

    def bodies(self) -> list[str]:
        return [event["content"]["body"] for event in self.timeline if "body" in event["content"]]

    def _apply_state(self, events: Iterable[Json]) -> None:
        for event in events:
            if "state_key" in event:
                self.state[event["type"], event["state_key"]] = event


@dataclass
class View:
    rooms: dict[str, RoomView] = field(default_factory=dict)
    presence: dict[str, Json] = field(default_factory=dict)
    account_data: dict[str, Json] = field(default_factory=dict)
    to_device: list[Json] = field(default_factory=list)
    changed_devices: list[str] = field(default_factory=list)

    def room(self, room_id: str) -> RoomView:
        return self.rooms.setdefault(room_id, RoomView())

    def apply(self, answer: Mapping[str, Any]) -> None:
        for membership in ("join", "invite", "knock", "leave"):
            for room_id, told in answer.get("rooms", {}).get(membership, {}).items():
                room = self.room(room_id)
                room.membership = membership
                stripped = f"{membership}_state"
                for section in ("state", stripped, "timeline"):
                    room._apply_state(told.get(section, {}).get("events", []))
                room.timeline += told.get("timeline", {}).get("events", [])
                for event in told.get("ephemeral", {}).get("events", []):
                    _apply_ephemeral(room, event)
                for event in told.get("account_data", {}).get("events", []):
                    room.account_data[event["type"]] = event["content"]
        for event in answer.get("presence", {}).get("events", []):
            self.presence[event["sender"]] = event["content"]
        for event in answer.get("account_data", {}).get("events", []):
            self.account_data[event["type"]] = event["content"]
        self.to_device += answer.get("to_device", {}).get("events", [])
        self.changed_devices += answer.get("device_lists", {}).get("changed", [])


def _apply_ephemeral(room: RoomView, event: Json) -> None:
    match event["type"]:
        case "m.typing":
            room.typing = event["content"]["user_ids"]
        case "m.receipt":
            for event_id, kinds in event["content"].items():
                room.receipts.setdefault(event_id, {}).update(kinds.get("m.read", {}))
