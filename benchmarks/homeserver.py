"""The bundled homeserver beside Synapse: from send to sync, and memory; the same client, the same people."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any
from urllib.parse import quote

from benchmarks.homeserver_client import Client
from benchmarks.homeserver_data import fill
from benchmarks.homeserver_processes import (
    OURS,
    SYNAPSE,
    Authority,
    Homeserver,
    competitors,
    homeserver,
    remembered_port,
)
from benchmarks.processes import in_process
from benchmarks.report import Row, at_least, at_most
from benchmarks.world import World

_CLIENT = "/_matrix/client/v3"
_ROOMS, _SENDERS = 4, 8
_PACE_SECONDS = 0.05


@dataclass
class Figures:
    sends_per_s: float = 0
    p50_ms: float = 0
    p95_ms: float = 0
    rss_mib: float = 0


async def sends(world: World) -> AsyncIterator[Row]:
    """Messages per second, how soon others hear of them, and what it takes in memory."""
    authority = Authority(world.folder)
    measured: dict[str, Figures] = {}
    for software in competitors():
        world.say(f"{software}: sending and syncing")
        async with homeserver(software, world.folder / f"sends-{software}", authority) as server:
            measured[software] = await _measure(server, world.sizes.seconds * 2)
    ours, theirs = measured[OURS], measured.get(SYNAPSE)
    yield compared(
        "sends", "sends/s, 8 clients in 4 rooms", ours.sends_per_s, theirs.sends_per_s if theirs else None, more=True
    )
    for name in ("p50_ms", "p95_ms"):
        yield compared(
            "sends",
            f"{name[:3]} from send to another's sync, 20 a second",
            getattr(ours, name),
            getattr(theirs, name) if theirs else None,
            unit=" ms",
        )
    yield compared("sends", "RSS after that", ours.rss_mib, theirs.rss_mib if theirs else None, unit=" MiB", goal=0.5)


async def restart(world: World) -> AsyncIterator[Row]:
    """To the first answer, with many events."""
    authority = Authority(world.folder)
    folder = world.folder / "restart"
    events = world.sizes.events
    world.say(f"writing {events:,} events")
    folder.mkdir()
    federation_port = remembered_port(folder)
    began = perf_counter()
    await in_process(fill, folder, f"localhost:{federation_port}", events)
    filled = perf_counter() - began
    async with homeserver(OURS, folder, authority) as server:
        seconds = server.process.started_seconds
        rss = server.process.rss_mib()
    yield Row(
        "homeserver start",
        f"{seconds:.2f} s with {events:,} events (written at {events / filled:,.0f}/s); {rss:.0f} MiB",
        **at_most(2, seconds, " s"),
        figures={"seconds": seconds, "rss_mib": rss, "events": events},
    )


def compared(
    work: str, what: str, ours: float, theirs: float | None, *, unit: str = "", more: bool = False, goal: float = 1
) -> Row:
    """``more``: whether more is better. ``goal``: at most (or, if more is better, at least) so much of Synapse's."""
    if theirs is None:
        return Row(work, f"{what}: {ours:,.1f}{unit} (no Synapse beside it)", figures={"ours": ours})
    ratio = ours / theirs
    judge = at_least if more else at_most
    return Row(
        work,
        f"{what}: {ours:,.1f}{unit}; Synapse {theirs:,.1f}{unit}",
        **judge(goal, ratio, ratio=f"{ratio:.2f} of Synapse’s"),
        figures={"ours": ours, "synapse": theirs},
    )


async def _measure(server: Homeserver, seconds: float) -> Figures:
    people = [await register(server, f"person{number}") for number in range(_SENDERS + 1)]
    listener, senders = people[0], people[1:]
    rooms = []
    for number in range(_ROOMS):
        created = await senders[number].call("POST", f"{_CLIENT}/createRoom", {"preset": "public_chat"})
        rooms.append(created["room_id"])
        for person in people:
            await person.call("POST", f"{_CLIENT}/join/{quoted(rooms[-1])}", {})
    figures = Figures()
    ear = Ear(listener)
    await ear.begin()
    listening = asyncio.create_task(ear.listen())
    try:
        await _chatter(senders, rooms, 1.0)  # until everything is warm
        figures.sends_per_s = await _chatter(senders, rooms, seconds)
        await ear.quiet()
        ear.heard.clear()
        await _paced(senders[0], rooms[0], seconds)
        await ear.quiet()
    finally:
        listening.cancel()
    latencies = sorted(ear.heard)
    figures.p50_ms = latencies[len(latencies) // 2] * 1000
    figures.p95_ms = latencies[len(latencies) * 95 // 100] * 1000
    figures.rss_mib = server.process.rss_mib()
    for person in people:
        await person.close()
    return figures


async def register(server: Homeserver, username: str) -> Client:
    client = Client(server.process.port)
    wanted: dict[str, Any] = {"username": username, "password": "correct horse battery staple"}
    _, asked = await client.ask("POST", f"{_CLIENT}/register", wanted)
    wanted["auth"] = {"type": "m.login.dummy", "session": asked["session"]}
    client.token = (await client.call("POST", f"{_CLIENT}/register", wanted))["access_token"]
    return client


async def _chatter(senders: list[Client], rooms: list[str], seconds: float) -> float:
    """Messages per second when everybody sends again once the last was answered."""
    began = perf_counter()

    async def talk(number: int, sender: Client) -> int:
        sent = 0
        while perf_counter() - began < seconds:
            await _say(sender, rooms[number % len(rooms)])
            sent += 1
        return sent

    counts = await asyncio.gather(*(talk(number, sender) for number, sender in enumerate(senders)))
    return sum(counts) / (perf_counter() - began)


async def _paced(sender: Client, room: str, seconds: float) -> None:
    for _ in range(int(seconds / _PACE_SECONDS)):
        began = perf_counter()
        await _say(sender, room)
        await asyncio.sleep(max(0.0, _PACE_SECONDS - (perf_counter() - began)))


_transactions = iter(range(10**9))


async def _say(sender: Client, room: str) -> None:
    path = f"{_CLIENT}/rooms/{quoted(room)}/send/m.room.message/{next(_transactions)}"
    content = {
        "msgtype": "m.text",
        "body": "Nothing is so painful as a great and sudden change.",
        "at": str(perf_counter()),
    }
    await sender.call("PUT", path, content)


@dataclass
class Ear:
    """Somebody who syncs all the time. ``heard``: of each message, the seconds since before it was sent."""

    client: Client
    heard: list[float] = field(default_factory=list)
    _since: str = ""
    _last: float = 0.0

    async def begin(self) -> None:
        self._since = (await self.client.call("GET", f"{_CLIENT}/sync?timeout=0"))["next_batch"]

    async def listen(self) -> None:
        while True:
            answer = await self.client.call("GET", f"{_CLIENT}/sync?timeout=10000&since={self._since}")
            now = perf_counter()
            self._since = answer["next_batch"]
            for room in answer.get("rooms", {}).get("join", {}).values():
                for event in room.get("timeline", {}).get("events", []):
                    if at := event["content"].get("at"):
                        self.heard.append(now - float(at))
                        self._last = now

    async def quiet(self) -> None:
        """Until nothing has been heard for a while."""
        began = perf_counter()
        while perf_counter() - max(self._last, began) < 0.5:
            await asyncio.sleep(0.05)


def quoted(part: str) -> str:
    return quote(part, safe="")
