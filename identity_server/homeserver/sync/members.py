"""Which memberships a client that loads them lazily has been sent (Client-Server API, "Lazy-loading room members").

Kept in memory only: a client is sent what it knows already rather than not sent what it does not know.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_MOST_DEVICES = 1_000
_MOST_MEMBERS = 20_000

Sent = dict[str, dict[str, tuple[str, int]]]


@dataclass
class SentMembers:
    """By device, room and user: the event ID, and the position of the answer that it was sent with."""

    _devices: OrderedDict[tuple[str, str], Sent] = field(default_factory=OrderedDict)

    def known(self, device: tuple[str, str], room_id: str, user_ids: Iterable[str], *, told: int) -> set[str]:
        """Those of ``user_ids`` whose membership was sent with an answer that the client has seen: up to ``told``."""
        sent = self._devices.get(device, {}).get(room_id, {})
        return {user_id for user_id in user_ids if user_id in sent and sent[user_id][1] <= told}

    def note(self, device: tuple[str, str], room_id: str, members: Mapping[str, str], *, position: int) -> None:
        """``members``: event IDs by user ID, sent with the answer up to ``position``."""
        if not members:
            return
        rooms = self._devices.setdefault(device, {})
        self._devices.move_to_end(device)
        if sum(map(len, rooms.values())) > _MOST_MEMBERS:
            rooms.clear()
        in_room = rooms.setdefault(room_id, {})
        for user_id, event_id in members.items():
            before = in_room.get(user_id)
            if before is None or before[0] != event_id or before[1] > position:
                in_room[user_id] = event_id, position
        if len(self._devices) > _MOST_DEVICES:
            self._devices.popitem(last=False)

    def forget(self, device: tuple[str, str]) -> None:
        """The device begins anew."""
        self._devices.pop(device, None)
