"""An identity server as a process of its own, that can be killed and started again."""

import asyncio
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from sqlalchemy import insert
from typer.testing import CliRunner

from identity_server.cli import main
from identity_server.demo.serving import HOST, free_port
from identity_server.identity.access.store import add_token
from identity_server.identity.validation.models import ValidationSession
from identity_server.runtime.clock import SystemClock
from identity_server.runtime.database import Database
from identity_server.runtime.migrations import prepare
from identity_server.runtime.tokens import token_hash
from tests.world import hashed

V2 = "/_matrix/identity/v2"
SECRET = "secret"
_START_SECONDS = 30

_CONFIG = """
[server]
name = "{name}"
public_base_url = "{url}"
port = {port}
data_dir = "{folder}"
[federation]
allowed_private_networks = ["127.0.0.0/8"]
timeout = "3s"
[replication]
pull_interval = "1s"
max_pause = "1s"
[rate_limits]
enabled = false
[admin]
port = 0
[logging]
level = "warning"
"""


class Entry(NamedTuple):
    """What a server has stated; ``user_id`` is None in a tombstone."""

    origin: str
    position: int
    address: str
    user_id: str | None
    ts: int


class Node:
    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.config = folder / "config.toml"
        self.http = httpx.AsyncClient(base_url=self.url, trust_env=False, timeout=10)
        self._process: asyncio.subprocess.Process | None = None

    async def prepare(self, users: list[str], addresses: list[str]) -> None:
        """Each of ``users`` has an account whose token is the user ID; each address is proven in a session."""
        self.folder.mkdir(parents=True)
        self.config.write_text(_CONFIG.format(name=self.name, url=self.url, port=self.port, folder=self.folder))
        database = Database(f"sqlite:///{self.folder / 'identity.db'}")
        try:
            await prepare(database, "identity")
            now_ms = SystemClock().now_ms()
            async with database.transaction() as session:
                for user_id in users:
                    await add_token(session, token_hash(user_id), user_id, now_ms=now_ms, expires_ts=None)
                await session.execute(insert(ValidationSession), [_proven(address, now_ms) for address in addresses])
        finally:
            await database.close()

    async def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "identity_server.cli", "--config", str(self.config), "serve"),
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])},
                stdout=log,
                stderr=log,
            )
        async with asyncio.timeout(_START_SECONDS):
            while True:
                try:
                    assert (await self.http.get(V2)).status_code == 200
                    return
                except httpx.TransportError:
                    assert self._process.returncode is None, (self.folder / "log").read_text()
                    await asyncio.sleep(0.05)

    async def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            await self._process.wait()
            self._process = None

    async def close(self) -> None:
        await self.kill()
        await self.http.aclose()

    async def command(self, *arguments: str) -> str:
        ended = await asyncio.to_thread(CliRunner().invoke, main.app, ["--config", str(self.config), *arguments])
        assert ended.exit_code == 0, ended.output
        return ended.output

    async def bind(self, user_id: str, address: str) -> int | None:
        """The statement's time; None if the server did not answer that it is done. Raises ``httpx.TransportError``."""
        body = {"sid": _sid(address), "client_secret": SECRET, "mxid": user_id}
        answer = await self.http.post(f"{V2}/3pid/bind", json=body, headers=_as(user_id))
        return int(answer.json()["ts"]) if answer.status_code == 200 else None

    async def unbind(self, user_id: str, address: str) -> bool:
        body = {"mxid": user_id, "threepid": {"medium": "email", "address": address}}
        answer = await self.http.post(f"{V2}/3pid/unbind", json=body, headers=_as(user_id))
        return answer.status_code == 200

    async def found(self, reader: str, addresses: list[str]) -> dict[str, str]:
        """A hashed lookup, as clients make it: from each of ``addresses`` that is bound to its user ID."""
        details = (await self.http.get(f"{V2}/hash_details", headers=_as(reader))).json()
        pepper = details["lookup_pepper"]
        hashes = {hashed(address, "email", pepper): address for address in addresses}
        body = {"algorithm": "sha256", "pepper": pepper, "addresses": list(hashes)}
        answer = await self.http.post(f"{V2}/lookup", json=body, headers=_as(reader))
        assert answer.status_code == 200, answer.text
        return {hashes[hash_]: user_id for hash_, user_id in answer.json()["mappings"].items()}

    def log(self) -> list[Entry]:
        """What the server has stated."""
        rows = self._rows("SELECT position, address, user_id, ts FROM association_log ORDER BY position")
        return [Entry(self.name, *row) for row in rows]

    def has_of(self, peers: "list[Node]") -> dict[str, int]:
        """How far it has the logs of its peers, where that is all there is."""
        taken = dict(self._rows("SELECT name, taken_position FROM peers"))
        return {
            peer.name: taken[peer.name]
            for peer in peers
            if peer is not self and taken[peer.name] == peer._rows("SELECT position FROM log_heads")[0][0]
        }

    def complaints(self) -> list[Any]:
        return self._rows("SELECT name, alarm FROM peers WHERE alarm IS NOT NULL") + self._rows(
            "SELECT peer, position, reason FROM statements_set_aside"
        )

    def _rows(self, query: str) -> list[Any]:
        connection = sqlite3.connect(f"file:{self.folder / 'identity.db'}?mode=ro", uri=True, timeout=10)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()


def _sid(address: str) -> str:
    return address.replace("@", ".")


def _as(user_id: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {user_id}"}


def _proven(address: str, now_ms: int) -> dict[str, Any]:
    return {
        "sid": _sid(address),
        "client_secret": SECRET,
        "medium": "email",
        "address": address,
        "send_attempt": 1,
        "modified_ts": now_ms,
        "validated_ts": now_ms,
        "wrong_tokens": 0,
        "superseded": False,
    }
