"""Homeservers that find each other on loopback by TLS, in this process, and people with a bare client of each."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import quote

import trustme
import uvicorn
from argon2 import PasswordHasher
from httpx import ASGITransport, AsyncClient, Response

from identity_server.demo.serving import HOST, free_port
from identity_server.homeserver.accounts.passwords import Passwords
from identity_server.homeserver.application import homeserver_application, open_homeserver
from identity_server.homeserver.serve import opened
from identity_server.runtime.tokens import SystemEntropy
from identity_server.settings import (
    FederationSettings,
    HomeserverSettings,
    RateLimitSettings,
    ServerSettings,
    Settings,
)

Json = dict[str, Any]

V3 = "/_matrix/client/v3"
_CHEAP = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
_PATIENCE_SECONDS = 30


class Authority:
    """Who vouches for every server of a test."""

    def __init__(self, folder: Path) -> None:
        self._ca = trustme.CA()
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(self.file)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert("localhost", HOST).configure_cert(self.tls)


@asynccontextmanager
async def tls_server(app: Any, port: int, authority: Authority) -> AsyncIterator[None]:
    """``app`` answers on ``port`` until the block ends."""
    config = uvicorn.Config(
        app,
        host=HOST,
        port=port,
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=0,  # connections are kept open by whoever made them
        ssl_context_factory=lambda _config, _default: authority.tls,
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    serving = asyncio.create_task(server.main_loop())
    try:
        yield
    finally:
        server.should_exit = True
        await serving
        await server.shutdown()


class Homeserver:
    """One of ours. ``state``: what it keeps open while it runs."""

    def __init__(self, folder: Path, database_url: str, authority: Authority, port: int | None = None) -> None:
        self.port = port or free_port()
        self.name = f"localhost:{self.port}"
        self._authority = authority
        self.settings = Settings(
            server=ServerSettings(data_dir=folder),
            homeserver=HomeserverSettings(name=self.name, registration=True, database_url=database_url),
            federation=FederationSettings(
                ca_file=authority.file, allowed_private_networks=(ip_network("127.0.0.0/8"),), timeout=20_000
            ),
            rate_limits=RateLimitSettings(enabled=False),
        )
        self.state: dict[str, Any] = {}
        self.listens_on = self.port
        self._running: AsyncExitStack | None = None

    async def start(self) -> None:
        passwords = Passwords(SystemEntropy(), _CHEAP)
        self._running = AsyncExitStack()
        self.state = await self._running.enter_async_context(open_homeserver(self.settings, passwords=passwords))
        app = opened(homeserver_application(self.settings), self.state)
        await self._running.enter_async_context(tls_server(app, self.listens_on, self._authority))
        self.client = await self._running.enter_async_context(
            AsyncClient(transport=ASGITransport(app), base_url=f"https://{self.name}", timeout=60)
        )

    async def stop(self) -> None:
        if self._running is not None:
            await self._running.aclose()
            self._running = None

    async def person(self, name: str) -> "Person":
        body = {"username": name, "password": "x", "auth": {"type": "m.login.dummy"}}
        answer = await self.client.post(f"{V3}/register", json=body)
        assert answer.status_code == 200, answer.text
        login = answer.json()
        return Person(self, login["user_id"], login["access_token"])


@dataclass
class Person:
    server: Homeserver
    user_id: str
    token: str
    _transactions: int = 0
    _since: str | None = None
    invited: dict[str, Json] = field(default_factory=dict)

    async def ask(self, method: str, path: str, body: Json | None = None, **params: Any) -> Response:
        return await self.server.client.request(
            method,
            f"{V3}{path}",
            json={} if body is None and method in ("POST", "PUT") else body,
            params=params,
            headers={"Authorization": f"Bearer {self.token}"},
        )

    async def ok(self, method: str, path: str, body: Json | None = None, **params: Any) -> Json:
        answer = await self.ask(method, path, body, **params)
        assert answer.status_code == 200, (method, path, answer.status_code, answer.text)
        read: Json = answer.json()
        return read

    async def creates(self, **body: Any) -> str:
        return str((await self.ok("POST", "/createRoom", body))["room_id"])

    async def joins(self, room_id: str, *via: str) -> None:
        await self.ok("POST", f"/join/{quote(room_id)}", server_name=list(via), via=list(via))

    async def invites(self, room_id: str, other: "Person") -> None:
        await self.ok("POST", f"/rooms/{quote(room_id)}/invite", {"user_id": other.user_id})

    async def leaves(self, room_id: str) -> None:
        await self.ok("POST", f"/rooms/{quote(room_id)}/leave")

    async def says(self, room_id: str, text: str) -> str:
        self._transactions += 1
        path = f"/rooms/{quote(room_id)}/send/m.room.message/{self._transactions}"
        sent = await self.ok("PUT", path, {"msgtype": "m.text", "body": text})
        return str(sent["event_id"])

    async def sets(self, room_id: str, type_: str, content: Json, state_key: str = "") -> str:
        path = f"/rooms/{quote(room_id)}/state/{type_}/{quote(state_key)}"
        return str((await self.ok("PUT", path, content))["event_id"])

    async def texts(self, room_id: str, limit: int = 1000) -> list[str]:
        """The messages that can be read, the earliest first."""
        return [
            event["content"].get("body", "")
            for event in await self.history(room_id, limit)
            if event["type"] == "m.room.message"
        ]

    async def history(self, room_id: str, limit: int = 1000) -> list[Json]:
        """All that can be read by going back, the earliest first."""
        events: list[Json] = []
        token: str | None = None
        while len(events) < limit:
            more = {"from": token} if token else {}
            page = await self.ok("GET", f"/rooms/{quote(room_id)}/messages", dir="b", limit=100, **more)
            events += page["chunk"]
            token = page.get("end")
            if token is None or not page["chunk"]:
                break
        return events[::-1]

    async def state(self, room_id: str) -> dict[tuple[str, str], str]:
        """The event IDs of the room's state."""
        answer = await self.ask("GET", f"/rooms/{quote(room_id)}/state")
        assert answer.status_code == 200, answer.text
        return {(event["type"], event["state_key"]): event["event_id"] for event in answer.json()}

    async def membership(self, room_id: str) -> str | None:
        """As /sync tells of it."""
        told = await self.ok("GET", "/sync", timeout=0)
        for kind in ("join", "invite", "knock", "leave"):
            if room_id in told.get("rooms", {}).get(kind, {}):
                return kind
        return None


async def until(holds: Callable[[], Any], seconds: float = _PATIENCE_SECONDS) -> Any:
    """Look again and again; the first true answer."""
    async with asyncio.timeout(seconds):
        while True:
            if answer := await holds():
                return answer
            await asyncio.sleep(0.05)
