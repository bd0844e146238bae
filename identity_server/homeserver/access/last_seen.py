"""When devices were last seen, and from where: coarsely, so that requests which only read stay such."""

import asyncio
from typing import Annotated

from identity_server.homeserver.access import store
from identity_server.runtime.background import to_its_end
from identity_server.runtime.database import Database
from identity_server.runtime.dependencies import opened

_EVERY_MS = 60_000
_PAUSE_SECONDS = 30
_MOST_DEVICES = 10_000

Seen = dict[tuple[str, str], tuple[int, str]]


class LastSeen:
    """By user ID and device ID: when, and from which address. What is noted is written in batches."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._written_ts: dict[tuple[str, str], int] = {}
        self._pending: Seen = {}

    def note(self, user_id: str, device_id: str, ip: str, *, now_ms: int) -> None:
        device = (user_id, device_id)
        if now_ms - self._written_ts.get(device, 0) >= _EVERY_MS:
            self._pending[device] = (now_ms, ip)

    def pending(self, user_id: str, device_id: str) -> tuple[int, str] | None:
        """What is noted and not yet written."""
        return self._pending.get((user_id, device_id))

    async def write(self) -> None:
        seen, self._pending = self._pending, {}
        if not seen:
            return
        if len(self._written_ts) > _MOST_DEVICES:
            self._written_ts.clear()
        self._written_ts |= {device: seen_ts for device, (seen_ts, _ip) in seen.items()}
        async with self._database.transaction() as session:
            await store.set_last_seen(session, seen)

    async def run_forever(self) -> None:
        while True:
            await asyncio.sleep(_PAUSE_SECONDS)
            await to_its_end(self.write())


OpenLastSeen = Annotated[LastSeen, opened("last_seen")]
