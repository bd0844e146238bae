"""Answering at once if there is something to tell, and otherwise as soon as there is (Client-Server API, "Syncing")."""

import asyncio
from dataclasses import dataclass, replace
from typing import Any

from identity_server.homeserver.encryption.for_sync import forget_delivered, to_device_messages
from identity_server.homeserver.presence.attendance import Attendance
from identity_server.homeserver.streams import Streams, current_position
from identity_server.homeserver.sync.answer import Answer, look
from identity_server.homeserver.sync.parts import SyncParts
from identity_server.homeserver.sync.request import SyncRequest
from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database

_LONGEST_MS = 600_000


@dataclass(frozen=True)
class Waiter:
    database: Database
    streams: Streams
    parts: SyncParts
    attendance: Attendance
    clock: Clock

    async def answer(self, request: SyncRequest, *, timeout_ms: int) -> dict[str, Any]:
        """The body of /sync, after ``timeout_ms`` at the latest."""
        answer = await self._look(request)
        if answer.has_messages:
            await self._forget_delivered(request)
        if answer.is_news or request.since is None or request.full_state or timeout_ms <= 0:
            return answer.body
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(timeout_ms, _LONGEST_MS) / 1000
        while not answer.is_news:
            # Whoever is told nothing has been told that there was nothing.
            request = replace(request, since=answer.token)
            rooms = answer.rooms
            with self.streams.listening({request.user_id, *rooms}) as listener:
                if await self._has_moved(answer):  # between the look and the listening
                    answer = await self._look(request)
                while not answer.is_news and answer.rooms == rooms:
                    left_ms = int((deadline - loop.time()) * 1000)
                    if left_ms <= 0 or self.streams.is_closing or not await listener.wait(left_ms):
                        return answer.body
                    answer = await self._look(replace(request, since=answer.token))
        return answer.body

    async def _look(self, request: SyncRequest) -> Answer:
        async with self.database.reading() as session:
            answer = await look(session, self.parts, request, now_ms=self.clock.now_ms())
        if answer.shows_activity:
            self.attendance.note_activity(request.user_id)
        return answer

    async def _has_moved(self, answer: Answer) -> bool:
        if self.parts.typing.serial != answer.token.typing:
            return True
        async with self.database.reading() as session:
            return await current_position(session) != answer.token.position

    async def _forget_delivered(self, request: SyncRequest) -> None:
        """What came with ``since`` has arrived."""
        if request.since is None:
            return
        device, upto = (request.user_id, request.device_id), request.since.to_device
        async with self.database.reading() as session:
            delivered, _ = await to_device_messages(session, *device, 0, upto, 1)
        if delivered:
            async with self.database.transaction() as session:
                await forget_delivered(session, *device, upto)
