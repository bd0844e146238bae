"""Fetching device lists of users elsewhere, once they are asked for or an update was missed."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.encryption.device_lists import store as device_lists
from identity_server.homeserver.encryption.device_lists.remote import DeviceList, fetch_list, forget, keep
from identity_server.homeserver.federation.calls import FederationCalls
from identity_server.homeserver.streams import current_position
from identity_server.homeserver.timeline import sharing
from identity_server.matrix.http import Unreachable
from identity_server.matrix.json_api import Refused
from identity_server.runtime.database import Database

EVERY_MS = 1_000

_AT_ONCE = 20
_TIMEOUT_MS = 10_000
_FIRST_PAUSE_MS = 10_000
_LONGEST_PAUSE_MS = 3_600_000


@dataclass(frozen=True)
class DeviceListResync:
    database: Database
    federation: FederationCalls
    server_name: str

    async def usable(self, user_ids: Collection[str], *, timeout_ms: int) -> set[str]:
        """Those of ``user_ids`` with whom we share a room, and whose lists are here now, fetched if need be."""
        async with self.database.reading() as session:
            shared = await sharing.shared_since(session, user_ids, self.server_name)
            current = await device_lists.current_lists(session, shared)
        good = {user_id for user_id, position in current.items() if shared[user_id] <= position}
        return good | await self.fetch(shared.keys() - good, timeout_ms=timeout_ms)

    async def fetch(self, user_ids: Collection[str], *, timeout_ms: int) -> set[str]:
        """Those of ``user_ids`` whose lists could be fetched, and are kept now if they share a room with us."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def fetch(user_id: str) -> DeviceList | None:
            async with gate:
                try:
                    return await fetch_list(self.federation, user_id, timeout_ms=timeout_ms)
                except (Unreachable, Refused):
                    return None

        async with self.database.reading() as session:
            position = await current_position(session)
        fetched = [got for got in await asyncio.gather(*map(fetch, sorted(user_ids))) if got]
        if fetched:
            async with self.database.transaction() as session:
                await self._keep(session, fetched, position)
        return {each.user_id for each in fetched}

    async def run_due(self, now_ms: int) -> None:
        """Fetch the stale lists that are due; after a failure a growing pause is made."""
        async with self.database.reading() as session:
            due = dict(await device_lists.stale_lists(session, _AT_ONCE, now_ms=now_ms))
        if not due:
            return
        await self.fetch(due, timeout_ms=_TIMEOUT_MS)
        async with self.database.transaction() as session:
            # Also those that came, but are stale still.
            for user_id in sorted(due):
                pause_ms = min(_FIRST_PAUSE_MS * 2 ** min(due[user_id], 20), _LONGEST_PAUSE_MS)
                await device_lists.put_off(session, user_id, due_ts=now_ms + pause_ms)

    async def _keep(self, session: AsyncSession, fetched: Collection[DeviceList], position: int) -> None:
        user_ids = {each.user_id for each in fetched}
        shared = await sharing.shared_with_server(session, user_ids, self.server_name)
        for each in sorted(fetched, key=lambda each: each.user_id):
            if each.user_id in shared:
                await keep(session, each, position=position)
        await forget(session, user_ids - shared)
