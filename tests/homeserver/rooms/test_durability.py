"""A homeserver killed at any moment has, after the restart, every event that it answered, and none of them twice.

Real server processes, killed with SIGKILL while several clients write at once; what got no answer is sent again.
"""

import asyncio
import multiprocessing
from itertools import count
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from identity_server.demo.serving import free_port
from identity_server.homeserver.serve import serve_homeserver
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.room import EXTREMITIES
from identity_server.homeserver.timeline.state import StateGroups
from identity_server.runtime.database import Database
from identity_server.runtime.migrations import Schema
from identity_server.settings import HomeserverSettings, RateLimitSettings, ServerSettings, Settings

V3 = "/_matrix/client/v3"
KILLS = 3
CLIENTS = 4
PATIENCE_SECONDS = 60

# Forked from a process that has the server's modules already, each is up in a fraction of a second.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["identity_server.homeserver.serve"])


def _serve(settings: Settings) -> None:
    asyncio.run(serve_homeserver(settings))


class Lives:
    """One homeserver's lives, one after the other, on one database, and one user's clients."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.base_url = f"http://127.0.0.1:{settings.homeserver.port}"
        self.headers: dict[str, str] = {}
        self.room_id = ""
        self.numbers = count(1)
        self.pending: list[int] = []
        self.answered: dict[int, str] = {}  # by number: the event ID
        self.process: BaseProcess | None = None

    async def begin(self) -> None:
        self.process = processes.Process(target=_serve, args=(self.settings,), daemon=True)
        self.process.start()
        async with asyncio.timeout(PATIENCE_SECONDS), self.client() as client:
            while True:
                try:
                    assert (await client.get("/_matrix/client/versions")).status_code == 200
                    return
                except httpx.TransportError:
                    assert self.process.is_alive()
                    await asyncio.sleep(0.05)

    async def end(self) -> None:
        """With SIGKILL."""
        if self.process is not None:
            self.process.kill()
            await asyncio.to_thread(self.process.join)
            self.process.close()
            self.process = None

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.base_url, headers=self.headers, timeout=PATIENCE_SECONDS, verify=False)

    async def move_in(self) -> None:
        wish = {"username": "alice", "password": "correct horse", "auth": {"type": "m.login.dummy"}}
        async with self.client() as client:
            login = (await client.post(f"{V3}/register", json=wish)).json()
            self.headers = {"Authorization": f"Bearer {login['access_token']}"}
            answer = await client.post(f"{V3}/createRoom", json={}, headers=self.headers)
            self.room_id = answer.json()["room_id"]

    async def write(self, first: asyncio.Event) -> None:
        """Messages and topics, those first that nobody knows the fate of, until nobody answers any more."""
        async with self.client() as client:
            while True:
                number = self.pending.pop() if self.pending else next(self.numbers)
                try:
                    answer = await self._put(client, number)
                except httpx.TransportError:
                    self.pending.append(number)
                    return
                assert answer.status_code == 200, answer.text
                self.answered[number] = answer.json()["event_id"]
                first.set()

    async def _put(self, client: httpx.AsyncClient, number: int) -> httpx.Response:
        room = f"{V3}/rooms/{self.room_id}"
        if number % 5 == 0:
            return await client.put(f"{room}/state/m.number/{number}", json={"body": str(number)})
        return await client.put(f"{room}/send/m.number/{number}", json={"body": str(number)})

    async def live_and_be_killed(self, after_seconds: float) -> None:
        first = asyncio.Event()
        clients = asyncio.gather(*(self.write(first) for _ in range(CLIENTS)))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await first.wait()
            await asyncio.sleep(after_seconds)
            await self.end()
            await clients

    async def history(self) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []
        start: dict[str, str] = {}
        async with self.client() as client:
            while True:
                query = {"dir": "f", "limit": "100", "filter": '{"types":["m.number"]}', **start}
                page = (await client.get(f"{V3}/rooms/{self.room_id}/messages", params=query)).json()
                events += page["chunk"]
                if "end" not in page:
                    return events
                start = {"from": page["end"]}


@pytest.fixture
def schema() -> Schema | None:
    return None


async def test_what_was_answered_is_there_once_whenever_the_server_is_killed(database_url: str, tmp_path: Path) -> None:
    homeserver = HomeserverSettings(
        name="localhost",
        port=free_port(),
        federation_port=free_port(),
        registration=True,
        database_url=database_url,
    )
    settings = Settings(
        server=ServerSettings(data_dir=tmp_path),
        homeserver=homeserver,
        rate_limits=RateLimitSettings(enabled=False),
    )
    lives = Lives(settings)
    try:
        await lives.begin()
        await lives.move_in()
        for life in range(KILLS):
            await lives.live_and_be_killed(0.1 + 0.13 * life)
            await lives.begin()
        told = await lives.history()
        assert len(lives.answered) > KILLS * CLIENTS
        by_number = {int(event["content"]["body"]): event["event_id"] for event in told}
        assert len(by_number) == len(told)
        assert lives.answered.items() <= by_number.items()
        # What got no answer is there, or is not; sent again by its transaction ID, it is there once.
        unknown = set(lives.pending)
        assert by_number.keys() - lives.answered.keys() <= unknown
    finally:
        await lives.end()
    await _check_room(settings, lives.room_id, told[-1]["event_id"])


async def _check_room(settings: Settings, room_id: str, last: str) -> None:
    """The room's end and its state are those of its last event."""
    database = Database(settings.homeserver_database_url)
    try:
        async with database.reading() as session:
            tips = list(await session.scalars(select(EXTREMITIES.c.event_id).where(EXTREMITIES.c.room_id == room_id)))
            stored = await store.get_event(session, last)
            assert stored is not None
            assert tips == [last]
            state = await StateGroups().state_of(session, stored.state_group)
            assert await store.current_state_ids(session, room_id) == state
    finally:
        await database.close()
