"""A bind killed at any moment is, after the restart, wholly there or wholly absent; and what was answered is there.

Real server processes, killed with SIGKILL while several clients bind at once; a real homeserver's TLS port is told.
"""

import asyncio
import ipaddress
import json
import multiprocessing
import random
import socket
import ssl
from collections.abc import AsyncIterator
from itertools import count
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
import uvicorn
from sqlalchemy import insert, select
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from identity_server.demo.serving import free_port
from identity_server.identity.access.store import add_token
from identity_server.identity.associations import store as associations
from identity_server.identity.associations.merkle import Peaks
from identity_server.identity.associations.models import CurrentAssociation, LogEntry
from identity_server.identity.associations.statement import entry_nonce, log_entry
from identity_server.identity.invites.models import Invite
from identity_server.identity.invites.onbind import ONBIND
from identity_server.identity.lookup.models import SLOTS
from identity_server.identity.lookup.peppers import ensure_pepper
from identity_server.identity.lookup.rotate import rotate
from identity_server.identity.lookup.store import live_peppers
from identity_server.identity.tables import Table
from identity_server.identity.validation.models import ValidationSession
from identity_server.runtime.clock import SystemClock
from identity_server.runtime.database import Database
from identity_server.runtime.migrations import prepare
from identity_server.runtime.tokens import SystemEntropy, token_hash
from identity_server.serve import serve_identity
from identity_server.settings import Settings
from tests.world import hashed

V2 = "/_matrix/identity/v2"
NAME = "is.test"
HEADERS = {"Authorization": "Bearer known"}
KILLS = 10
CLIENTS = 8
ADDRESSES_PER_LIFE = 150
PATIENCE_SECONDS = 30

# Forked from a process that has the server's modules already, each is up in a fraction of a second.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["identity_server.serve"])


class Homeserver:
    """Takes note of every binding that it is told of."""

    def __init__(self) -> None:
        self.name = ""
        self.told: set[str] = set()

    async def onbind(self, request: Request) -> Response:
        self.told.add((await request.json())["address"])
        return JSONResponse({})


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def homeserver(authority: trustme.CA) -> AsyncIterator[Homeserver]:
    heard = Homeserver()
    route = Route("/_matrix/federation/v1/3pid/onbind", heard.onbind, methods=["POST"])
    config = uvicorn.Config(Starlette(routes=[route]), log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    config.load()
    config.ssl = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(config.ssl)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        heard.name = f"localhost:{listener.getsockname()[1]}"
        server = uvicorn.Server(config)
        running = asyncio.create_task(server._serve([listener]))
        yield heard
        server.should_exit = True
        await running


class Lives:
    """One server's lives, one after the other, on one database."""

    def __init__(self, settings: Settings, user_id: str) -> None:
        self.settings = settings
        self.user_id = user_id
        self.database = Database(settings.database_url)
        self.clock, self.entropy = SystemClock(), SystemEntropy()
        self.numbers = count(1)
        self.proven: list[str] = []  # addresses
        self.answered: dict[str, dict[str, Any]] = {}  # by address: the signed association
        self.process: BaseProcess | None = None

    async def prepare(self) -> None:
        await prepare(self.database, "identity")
        await ensure_pepper(self.database, self.entropy, now_ms=self.clock.now_ms())
        # Two peppers are live from now on.
        await rotate(self.database, self.settings.lookup, clock=self.clock, entropy=self.entropy)
        async with self.database.transaction() as session:
            known = token_hash("known")
            await add_token(session, known, self.user_id, now_ms=self.clock.now_ms(), expires_ts=None)

    async def prove_some(self) -> list[str]:
        """Addresses that wait to be bound: each proven in a session named like it, and each invited to a room."""
        some = [f"{next(self.numbers)}@example.org" for _ in range(ADDRESSES_PER_LIFE)]
        now_ms = self.clock.now_ms()
        async with self.database.transaction() as session:
            await session.execute(insert(ValidationSession), [_session(address, now_ms) for address in some])
            await session.execute(insert(Invite), [_invite(address, now_ms) for address in some])
        self.proven += some
        return some

    async def begin(self) -> None:
        self.process = processes.Process(target=serve_identity, args=(self.settings,), daemon=True)
        self.process.start()
        async with asyncio.timeout(PATIENCE_SECONDS), self.client() as client:
            while True:
                try:
                    assert (await client.get(V2)).status_code == 200
                    return
                except httpx.TransportError:
                    assert self.process.is_alive()
                    await asyncio.sleep(0.02)

    async def end(self) -> None:
        """With SIGKILL."""
        if self.process is not None:
            self.process.kill()
            await asyncio.to_thread(self.process.join)
            self.process.close()
            self.process = None

    def client(self) -> httpx.AsyncClient:
        url = f"http://127.0.0.1:{self.settings.server.port}"
        # No authorities are loaded for what is not encrypted: it takes longer than to bind.
        return httpx.AsyncClient(base_url=url, headers=HEADERS, timeout=PATIENCE_SECONDS, verify=False)

    async def bind(self, waiting: list[str], first: asyncio.Event) -> None:
        """Bind what waits until nobody answers any more."""
        async with self.client() as client:
            while waiting:
                address = waiting.pop()
                try:
                    answer = await client.post(f"{V2}/3pid/bind", json={**_credentials(address), "mxid": self.user_id})
                except httpx.TransportError:
                    return  # nobody knows whether it is bound
                assert answer.status_code == 200, answer.text
                self.answered[address] = answer.json()
                first.set()

    async def live_and_be_killed(self, after_seconds: float) -> None:
        waiting = await self.prove_some()
        first = asyncio.Event()
        clients = asyncio.gather(*(self.bind(waiting, first) for _ in range(CLIENTS)))
        async with asyncio.timeout(PATIENCE_SECONDS):
            await first.wait()
        await asyncio.sleep(after_seconds)
        await self.end()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await clients


def _credentials(address: str) -> dict[str, str]:
    number = address.partition("@")[0]
    return {"sid": f"sid-{number}", "client_secret": f"secret-{number}"}


def _session(address: str, now_ms: int) -> dict[str, Any]:
    return {
        **_credentials(address),
        "medium": "email",
        "address": address,
        "send_attempt": 1,
        "modified_ts": now_ms,
        "validated_ts": now_ms,
        "wrong_tokens": 0,
        "superseded": False,
    }


def _invite(address: str, now_ms: int) -> dict[str, Any]:
    return {
        "token": f"invite-{address}",
        "medium": "email",
        "address": address,
        "room_id": "!room:hs.test",
        "sender": "@inviter:hs.test",
        "public_key": f"key-{address}",
        "key_id": "ed25519:0",
        "created_ts": now_ms,
        "expires_ts": now_ms + 86_400_000,
    }


async def check(lives: Lives, homeserver: Homeserver) -> None:
    """Every bind is wholly there, or wholly absent; those that were answered are there."""
    tasks = Table.metadata.tables["tasks"]
    async with lives.database.reading() as session:
        # First of all: a task that is gone by now has been done, so the homeserver has been told.
        queued = await session.execute(select(tasks.c.payload).where(tasks.c.kind == ONBIND))
        to_tell = {json.loads(payload)["address"]: json.loads(payload) for (payload,) in queued}
        log = await associations.log_page(session, after=0, limit=1_000_000)
        signed = {entry.position: (entry.key_id, entry.signature) for entry in await session.scalars(select(LogEntry))}
        head = await associations.head(session)
        bound = {row.address: row for row in await session.scalars(select(CurrentAssociation))}
        claims = {invite.address: invite.claimed_by for invite in await session.scalars(select(Invite))}
        peppers = await live_peppers(session)
        indexes = [
            (live.pepper, dict((await session.execute(select(SLOTS[live.slot].hash, SLOTS[live.slot].user_id))).all()))
            for live in peppers
        ]
    assert len(peppers) == 2
    positions = {entry.statement.threepid.address: entry.position for entry in log}
    assert [entry.position for entry in log] == list(range(1, head.position + 1))
    assert len(positions) == len(log)
    entries = (
        log_entry(NAME, entry.position, entry.statement, entry_nonce(head.secret, entry.position)) for entry in log
    )
    assert Peaks().extended(entries)[0] == head.peaks
    for address in lives.proven:
        is_there = address in positions
        current = bound.get(address)
        traces = [
            current is not None and (current.user_id, current.origin_id) == (lives.user_id, positions.get(address)),
            claims[address] == lives.user_id,
            *(index.get(hashed(address, "email", pepper)) == lives.user_id for pepper, index in indexes),
            address in to_tell or address in homeserver.told,
        ]
        assert set(traces) == {is_there}, (address, is_there, traces)
        if address in to_tell:
            assert [invite["signed"]["token"] for invite in to_tell[address]["invites"]] == [f"invite-{address}"]
    for address, association in lives.answered.items():
        assert address in positions
        key_id, signature = signed[positions[address]]
        assert association["signatures"][NAME] == {key_id: signature}
    assert len(bound) == len(positions)
    assert all(len(index) == len(positions) for _, index in indexes)


async def test_a_bind_that_is_killed_is_wholly_there_or_wholly_absent(
    database_url: str, tmp_path: Path, authority: trustme.CA, homeserver: Homeserver
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    settings = Settings(
        server={"name": NAME, "public_base_url": "https://is.test", "data_dir": tmp_path, "port": free_port()},
        database={"url": database_url},
        admin={"port": 0},
        rate_limits={"enabled": False},
        federation={
            "ca_file": tmp_path / "ca.pem",
            "allowed_private_networks": (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128")),
        },
        logging={"level": "error"},
    )
    lives = Lives(settings, f"@alice:{homeserver.name}")
    dice = random.Random()
    try:
        await lives.prepare()
        await lives.begin()
        for _ in range(KILLS):
            await lives.live_and_be_killed(after_seconds=dice.uniform(0, 0.25))
            await lives.begin()
            await check(lives, homeserver)
        assert homeserver.told
        async with lives.client() as client:
            pepper = (await client.get(f"{V2}/hash_details")).json()["lookup_pepper"]
            hashes = {hashed(address, "email", pepper) for address in lives.answered}
            body = {"algorithm": "sha256", "pepper": pepper, "addresses": list(hashes)}
            found = (await client.post(f"{V2}/lookup", json=body)).json()["mappings"]
            assert found == dict.fromkeys(hashes, lives.user_id)
    finally:
        await lives.end()
        await lives.database.close()
