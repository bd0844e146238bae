"""Whether users of ours are there, as their syncing shows (Client-Server API, "Presence").

What others are told is a row; this only knows when to write one. It is coarse: a row is written when a user comes,
goes, or falls idle, and not for every sign of life.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.presence import store
from identity_server.homeserver.presence.store import OFFLINE, ONLINE, UNAVAILABLE, Status
from identity_server.homeserver.presence.tell import absent, tell
from identity_server.homeserver.streams import Streams
from identity_server.runtime.background import to_its_end
from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database
from identity_server.runtime.dependencies import opened

_GONE_AFTER_MS = 30_000
_IDLE_AFTER_MS = 5 * 60_000
_LOOK_SECONDS = 5


@dataclass
class _Device:
    wanted: str
    seen_ts: int
    syncs: int = 0
    """How many of its requests are waiting right now."""


@dataclass
class _User:
    """``told``: what others know."""

    told: Status
    active_ts: int
    devices: dict[str, _Device] = field(default_factory=dict)
    changing: asyncio.Lock = field(default_factory=asyncio.Lock)


class Attendance:
    def __init__(self, database: Database, streams: Streams, clock: Clock, *, server_name: str) -> None:
        self._database = database
        self._streams = streams
        self._clock = clock
        self._server_name = server_name
        self._users: dict[str, _User] = {}

    @asynccontextmanager
    async def syncing(self, user_id: str, device_id: str, wanted: str) -> AsyncIterator[None]:
        """Meanwhile the device is connected; ``wanted``: as what it wants to be seen."""
        if wanted == OFFLINE:
            yield
            return
        user = await self._user(user_id)
        device = user.devices.setdefault(device_id, _Device(wanted, 0))
        if wanted == ONLINE and (device.wanted != ONLINE or user.told.presence == OFFLINE):
            user.active_ts = self._clock.now_ms()
        device.wanted, device.seen_ts = wanted, self._clock.now_ms()
        device.syncs += 1
        try:
            await self._settle(user)
            yield
        finally:
            device.syncs -= 1
            device.seen_ts = self._clock.now_ms()

    async def set_status(self, user_id: str, device_id: str, presence: str, status_msg: str | None) -> None:
        """What the user says by hand."""
        user = await self._user(user_id)
        now_ms = self._clock.now_ms()
        if presence == OFFLINE:
            user.devices.clear()
        else:
            device = user.devices.setdefault(device_id, _Device(presence, now_ms))
            device.wanted, device.seen_ts = presence, now_ms
        if presence == ONLINE:
            user.active_ts = now_ms
        async with user.changing:
            await self._tell(user, Status(user_id, presence, status_msg, user.active_ts, presence == ONLINE))

    async def status_of(self, session: AsyncSession, user_id: str) -> Status | None:
        """As ``store.status_of``, with the last activity up to date."""
        status = await store.status_of(session, user_id)
        user = self._users.get(user_id)
        if status is None or user is None:
            return status
        return Status(
            user_id,
            status.presence,
            status.status_msg,
            max(user.active_ts, status.last_active_ts),
            status.currently_active,
        )

    def note_activity(self, user_id: str) -> None:
        """The user did something (a "pro-active event")."""
        if user := self._users.get(user_id):
            user.active_ts = self._clock.now_ms()

    def forget(self, user_id: str) -> None:
        """The user is no more: nothing is to be written of it when it does not come again."""
        self._users.pop(user_id, None)

    async def run_forever(self) -> None:
        async with self._database.reading() as session:
            for status in await store.present_users(session, self._server_name):
                # Who was there when the process ended has a moment to come back.
                known = self._users.setdefault(status.user_id, _User(status, status.last_active_ts))
                known.devices.setdefault("", _Device(status.presence, self._clock.now_ms()))
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            await to_its_end(self.look())

    async def look(self) -> None:
        """Tell of who has gone or fallen idle."""
        for user_id, user in list(self._users.items()):
            await self._settle(user)
            if not user.devices and user.told.presence == OFFLINE:
                self._users.pop(user_id, None)

    async def _user(self, user_id: str) -> _User:
        if user_id not in self._users:
            async with self._database.reading() as session:
                status = await store.status_of(session, user_id)
            now_ms = self._clock.now_ms()
            told = status or absent(user_id, now_ms=now_ms)
            self._users.setdefault(user_id, _User(told, told.last_active_ts))
        return self._users[user_id]

    async def _settle(self, user: _User) -> None:
        """Tell what has become of the user, if it is something else."""
        if self._presence_now(user) == user.told.presence:
            return
        async with user.changing:
            presence = self._presence_now(user)
            if presence != user.told.presence:
                told = user.told
                await self._tell(
                    user, Status(told.user_id, presence, told.status_msg, user.active_ts, presence == ONLINE)
                )

    def _presence_now(self, user: _User) -> str:
        now_ms = self._clock.now_ms()
        for device_id, device in list(user.devices.items()):
            if not device.syncs and now_ms - device.seen_ts > _GONE_AFTER_MS:
                del user.devices[device_id]
        wanted = {device.wanted for device in user.devices.values()}
        if not wanted:
            return OFFLINE
        is_active = ONLINE in wanted and now_ms - user.active_ts <= _IDLE_AFTER_MS
        return ONLINE if is_active else UNAVAILABLE

    async def _tell(self, user: _User, status: Status) -> None:
        async with self._database.transaction() as session:
            await tell(session, self._streams, status, now_ms=self._clock.now_ms())
        user.told = status


OpenAttendance = Annotated[Attendance, opened("attendance")]
