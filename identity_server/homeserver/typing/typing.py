"""Who is typing (Client-Server API, "Typing Notifications"): kept in memory, for a moment."""

import asyncio
from collections.abc import Collection
from typing import Annotated

from identity_server.homeserver.streams import Streams
from identity_server.runtime.dependencies import opened

_MOST_ROOMS = 10_000


class Typing:
    """Each change in a room takes the next serial, of which /sync tokens carry the last that was told.

    ``start``: before the first serial. Let it grow from one start of the process to the next.
    """

    def __init__(self, streams: Streams, *, start: int) -> None:
        self._streams = streams
        self._serial = start
        self._rooms: dict[str, dict[str, asyncio.TimerHandle]] = {}
        self._changed: dict[str, int] = {}
        """By room, the last to change last: its serial."""

    @property
    def serial(self) -> int:
        return self._serial

    def users_in(self, room_id: str) -> list[str]:
        return sorted(self._rooms.get(room_id, ()))

    def rooms(self) -> list[str]:
        """Where somebody is typing."""
        return list(self._rooms)

    def changed_since(self, serial: int, room_ids: Collection[str]) -> list[str]:
        """Those of ``room_ids`` where who is typing has changed since."""
        changed = []
        for room_id, changed_serial in reversed(self._changed.items()):
            if changed_serial <= serial:
                break
            if room_id in room_ids:
                changed.append(room_id)
        return changed

    def start(self, room_id: str, user_id: str, timeout_ms: int) -> bool:
        """The user is typing for so long, unless one of the others happens first; whether that is new."""
        room = self._rooms.setdefault(room_id, {})
        before = room.get(user_id)
        if before is not None:
            before.cancel()
        room[user_id] = asyncio.get_running_loop().call_later(timeout_ms / 1000, self.stop, room_id, user_id)
        if before is None:
            self._note(room_id)
        return before is None

    def stop(self, room_id: str, user_id: str) -> bool:
        """Whether the user was typing."""
        room = self._rooms.get(room_id, {})
        timer = room.pop(user_id, None)
        if timer is None:
            return False
        timer.cancel()
        if not room:
            del self._rooms[room_id]
        self._note(room_id)
        return True

    def close(self) -> None:
        for room in self._rooms.values():
            for timer in room.values():
                timer.cancel()
        self._rooms.clear()

    def _note(self, room_id: str) -> None:
        self._serial += 1
        self._changed.pop(room_id, None)
        self._changed[room_id] = self._serial
        if len(self._changed) > _MOST_ROOMS:
            del self._changed[next(iter(self._changed))]
        self._streams.wake([room_id])


OpenTyping = Annotated[Typing, opened("typing")]
