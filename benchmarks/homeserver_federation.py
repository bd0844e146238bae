"""What federation costs: joining a large room, and receiving from one peer; the bundled homeserver beside Synapse."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.homeserver import compared, quoted, register
from benchmarks.homeserver_client import Client
from benchmarks.homeserver_processes import OURS, SYNAPSE, Authority, Homeserver, competitors, homeserver
from benchmarks.processes import free_port
from benchmarks.report import Row
from benchmarks.world import World

_CLIENT = "/_matrix/client/v3"
_PATIENCE_SECONDS = 600
# Synapse lays aside what it is sent for later, and forgets a room's part of that if it is a hundred events or more.
_ROOMS = 50


@dataclass
class Received:
    join_seconds: float
    received_per_s: float
    rss_mib: float


class PeerProcess:
    """The process of ``homeserver_peer``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def does(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        return await self.answers()

    async def answers(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, "the peer ended"
        answer: dict[str, Any] = json.loads(line)
        return answer


@asynccontextmanager
async def peer(folder: Path) -> AsyncIterator[PeerProcess]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.homeserver_peer",
        str(folder),
        str(free_port()),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        there = PeerProcess(process)
        await there.answers()
        yield there
    finally:
        process.kill()
        await process.wait()


async def federation(world: World) -> AsyncIterator[Row]:
    """From one peer: joining a room with many members and much state, then what it sends in full batches."""
    authority = Authority(world.folder)
    sizes = world.sizes
    measured: dict[str, Received] = {}
    for software in competitors():
        async with (
            homeserver(software, world.folder / f"federation-{software}", authority) as server,
            peer(world.folder) as other,
        ):
            client = await register(server, "visitor")
            # Joining them also warms both up: the peer's keys are fetched, caches are filled.
            small = [(await _join(client, other, members=2, state=10))[0] for _ in range(_ROOMS)]
            await _receive(client, server, other, small, _ROOMS)
            world.say(f"{software}: joining a room of {sizes.members:,} members")
            _, joined = await _join(client, other, members=sizes.members, state=sizes.state)
            world.say(f"{software}: receiving {sizes.received:,} events")
            received = await _receive(client, server, other, small, sizes.received)
            measured[software] = Received(joined, received, server.process.rss_mib())
            await client.close()
    ours, theirs = measured[OURS], measured.get(SYNAPSE)
    yield compared(
        "join over federation",
        f"join of a room with {sizes.members:,} members and {sizes.state:,} state events",
        ours.join_seconds,
        theirs.join_seconds if theirs else None,
        unit=" s",
    )
    yield compared(
        "receive over federation",
        "events/s from one peer, 50 in a transaction",
        ours.received_per_s,
        theirs.received_per_s if theirs else None,
        more=True,
    )
    yield compared(
        "receive over federation",
        "RSS after that",
        ours.rss_mib,
        theirs.rss_mib if theirs else None,
        unit=" MiB",
        goal=0.5,
    )


async def _join(client: Client, other: PeerProcess, *, members: int, state: int) -> tuple[str, float]:
    """A new room of the peer's, and the seconds from the request to the answer."""
    room_id = (await other.does({"build": {"members": members, "state": state}}))["room_id"]
    began = perf_counter()
    await client.call("POST", f"{_CLIENT}/join/{quoted(room_id)}?server_name={room_id.partition(':')[2]}", {})
    return room_id, perf_counter() - began


async def _receive(client: Client, server: Homeserver, other: PeerProcess, rooms: list[str], count: int) -> float:
    """Events per second, from the first transaction until clients can see the last event of every room."""
    began = perf_counter()
    sent = await other.does({"push": {"rooms": rooms, "target": server.name, "count": count}})
    async with asyncio.timeout(_PATIENCE_SECONDS):
        for room_id, event_id in sent["last"].items():
            path = f"{_CLIENT}/rooms/{quoted(room_id)}/event/{quoted(event_id)}"
            while (await client.ask("GET", path))[0] != 200:
                await asyncio.sleep(0.02)
    return count / (perf_counter() - began)
