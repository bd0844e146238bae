"""Asking other servers for events and states that we lack (Server-Server API, "Retrieving events", "Backfilling …").

Whatever they answer has passed checks 1 to 3 of a received PDU; it may be less than was asked for.
"""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from identity_server.homeserver.events.event import Event
from identity_server.homeserver.events.versions import RoomVersion
from identity_server.homeserver.federation.calls import FederationCalls, federation_path
from identity_server.homeserver.federation.checks import check_events
from identity_server.homeserver.federation.keyring import KeyRing
from identity_server.matrix.http import Unreachable
from identity_server.matrix.json_api import Refused

_TIMEOUT_MS = 30_000
_STATE_TIMEOUT_MS = 180_000
_STATE_BYTES = 256 * 1024 * 1024
_MOST_IDS = 500_000
_SINGLE_AT_ONCE = 10


class FetchedState(NamedTuple):
    """The state before an event; ``events`` holds what was sent along of it and of its auth chain."""

    state_ids: Sequence[str]
    auth_ids: Sequence[str]
    events: dict[str, Event]


@dataclass(frozen=True)
class Fetch:
    """Raises ``Unreachable`` and ``Refused``, unless it says otherwise."""

    calls: FederationCalls
    key_ring: KeyRing

    async def missing_events(
        self,
        server_name: str,
        room_id: str,
        version: RoomVersion,
        *,
        latest: Collection[str],
        earliest: Collection[str],
        limit: int,
        min_depth: int,
    ) -> dict[str, Event]:
        """What lies between."""
        path = federation_path("get_missing_events", room_id)
        asked = {
            "latest_events": list(latest),
            "earliest_events": list(earliest),
            "limit": limit,
            "min_depth": min_depth,
        }
        answer = await self.calls.post(server_name, path, asked, timeout_ms=_TIMEOUT_MS)
        return await self._checked(_pdus(answer, "events")[:limit], version, room_id)

    async def backfill(
        self, server_name: str, room_id: str, version: RoomVersion, event_ids: Collection[str], *, limit: int
    ) -> dict[str, Event]:
        """The events themselves, and what came before them."""
        path = federation_path("backfill", room_id, query={"v": event_ids, "limit": limit})
        answer = await self.calls.get(server_name, path, timeout_ms=_TIMEOUT_MS)
        return await self._checked(_pdus(answer, "pdus")[:limit], version, room_id)

    async def event(self, server_name: str, event_id: str, room_id: str, version: RoomVersion) -> Event | None:
        answer = await self.calls.get(server_name, federation_path("event", event_id), timeout_ms=_TIMEOUT_MS)
        return (await self._checked(_pdus(answer, "pdus")[:1], version, room_id)).get(event_id)

    async def events(
        self, server_name: str, event_ids: Iterable[str], room_id: str, version: RoomVersion
    ) -> dict[str, Event]:
        """One by one, a few at once; those that can be had. Raises nothing."""
        some = asyncio.Semaphore(_SINGLE_AT_ONCE)

        async def one(event_id: str) -> Event | None:
            async with some:
                try:
                    return await self.event(server_name, event_id, room_id, version)
                except (Unreachable, Refused):
                    return None

        found = await asyncio.gather(*(one(event_id) for event_id in event_ids))
        return {event.event_id: event for event in found if event is not None}

    async def auth_chain(self, server_name: str, room_id: str, version: RoomVersion, event_id: str) -> dict[str, Event]:
        path = federation_path("event_auth", room_id, event_id)
        answer = await self.calls.get(server_name, path, timeout_ms=_TIMEOUT_MS, max_bytes=_STATE_BYTES)
        return await self._checked(_pdus(answer, "auth_chain"), version, room_id)

    async def state_ids(self, server_name: str, room_id: str, event_id: str) -> tuple[list[str], list[str]]:
        """Of the state before the event, and of its auth chain."""
        path = federation_path("state_ids", room_id, query={"event_id": event_id})
        answer = await self.calls.get(server_name, path, timeout_ms=_TIMEOUT_MS, max_bytes=_STATE_BYTES)
        return _ids(answer, "pdu_ids"), _ids(answer, "auth_chain_ids")

    async def state(self, server_name: str, room_id: str, version: RoomVersion, event_id: str) -> FetchedState:
        path = federation_path("state", room_id, query={"event_id": event_id})
        answer = await self.calls.get(server_name, path, timeout_ms=_STATE_TIMEOUT_MS, max_bytes=_STATE_BYTES)
        state = await self._checked(_pdus(answer, "pdus"), version, room_id)
        chain = await self._checked(_pdus(answer, "auth_chain"), version, room_id)
        return FetchedState(list(state), list(chain), chain | state)

    async def _checked(self, pdus: Sequence[Any], version: RoomVersion, room_id: str) -> dict[str, Event]:
        return (await check_events(self.key_ring, pdus, version, room_id=room_id)).events


def _pdus(answer: dict[str, Any], name: str) -> list[Any]:
    pdus = answer.get(name)
    if not isinstance(pdus, list):
        raise Unreachable(f"the answer lacks {name}")
    return pdus


def _ids(answer: dict[str, Any], name: str) -> list[str]:
    ids = [
        event_id
        for event_id in _pdus(answer, name)[:_MOST_IDS]
        if isinstance(event_id, str) and event_id.startswith("$") and len(event_id) <= 255 and "\0" not in event_id
    ]
    return list(dict.fromkeys(ids))
