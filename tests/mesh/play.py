"""Three servers that trust each other, people who bind and unbind at all of them, and everything that can go wrong."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import perf_counter, time

import httpx

from identity_server.demo.serving import HOST
from identity_server.identity.associations.merge import Precedence
from tests.mesh.faulty_network import Way
from tests.mesh.node import Entry, Node

USERS = [f"@user{number}:hs.test" for number in range(4)]
ADDRESSES = [f"{number}@example.org" for number in range(40)]
_WRITERS = 2
# A server that was killed holds its work for 20 seconds more, and is asked every 5.
_REST_SECONDS = 60


@dataclass(frozen=True)
class Unbound:
    """An answered unbind; ``asked_ts``: when it was asked for, by the clock of all servers (ms)."""

    at: str
    address: str
    user_id: str
    asked_ts: int


@dataclass
class Story:
    """What was answered with 200."""

    bound: list[tuple[str, str, str, int]] = field(default_factory=list)
    unbound: list[Unbound] = field(default_factory=list)
    unanswered: int = 0


@dataclass
class Mesh:
    nodes: list[Node]
    ways: list[Way]
    chance: random.Random
    story: Story = field(default_factory=Story)

    async def seconds_until_found(self, times: int) -> float:
        """How long it takes, in the middle of so many times, from a bind's answer to its being found elsewhere."""
        one, other = self.nodes[:2]
        took = []
        for address in ADDRESSES[:times]:
            assert await one.bind(USERS[0], address) is not None
            began = perf_counter()
            async with asyncio.timeout(_REST_SECONDS):
                while not await other.found(USERS[1], [address]):
                    await asyncio.sleep(0.01)
            took.append(perf_counter() - began)
        return median(took)

    async def disturb(self, seconds: float) -> None:
        """Bind and unbind at all servers on a faulty network, and kill one server after another meanwhile."""
        for way in self.ways:
            way.faulty = True
        stop = asyncio.Event()
        writers = [asyncio.create_task(self._write(node, stop)) for node in self.nodes for _ in range(_WRITERS)]
        try:
            for node in self.nodes:
                await asyncio.sleep(seconds / len(self.nodes))
                await node.kill()
                await asyncio.sleep(self.chance.uniform(0, 0.5))
                await node.start()
        finally:
            stop.set()
            await asyncio.gather(*writers)
        for way in self.ways:
            await way.calm()

    async def come_to_rest(self) -> None:
        """Until everybody has all that everybody stated."""
        async with asyncio.timeout(_REST_SECONDS):
            while any(len(node.has_of(self.nodes)) < len(self.nodes) - 1 for node in self.nodes):
                await asyncio.sleep(0.2)

    async def check(self) -> None:
        """All answer alike and as the pure merge says, and nothing that was answered with 200 is lost."""
        logs = {node.name: node.log() for node in self.nodes}
        winners = merged([entry for log in logs.values() for entry in log])
        expected = {address: winner.user_id for address, winner in winners.items() if winner.user_id}
        for node in self.nodes:
            assert await node.found(USERS[0], ADDRESSES) == expected, node.name
            assert node.complaints() == []
        stated = {(entry.origin, entry.address, entry.user_id, entry.ts) for log in logs.values() for entry in log}
        assert set(self.story.bound) <= stated
        for unbound in self.story.unbound:
            winner = winners.get(unbound.address)
            # Nothing that a server had stated itself before it was asked to end it still holds.
            assert winner is None or not (
                (winner.origin, winner.user_id) == (unbound.at, unbound.user_id) and winner.ts < unbound.asked_ts
            ), unbound

    async def _write(self, node: Node, stop: asyncio.Event) -> None:
        while not stop.is_set():
            user_id, address = self.chance.choice(USERS), self.chance.choice(ADDRESSES)
            asked_ts = int(time() * 1000)
            try:
                if self.chance.random() < 0.65:
                    ts = await node.bind(user_id, address)
                    assert ts is not None
                    self.story.bound.append((node.name, address, user_id, ts))
                else:
                    assert await node.unbind(user_id, address)
                    self.story.unbound.append(Unbound(node.name, address, user_id, asked_ts))
            except httpx.TransportError:
                self.story.unanswered += 1
                await asyncio.sleep(0.1)
            await asyncio.sleep(self.chance.uniform(0, 0.06))


def merged(claims: list[Entry]) -> dict[str, Entry]:
    """Of all statements about each address the one that wins, from the definition."""
    return {
        address: max(
            (entry for entry in claims if entry.address == address),
            key=lambda entry: Precedence(entry.ts, entry.origin, entry.position),
        )
        for address in {entry.address for entry in claims}
    }


@asynccontextmanager
async def open_mesh(folder: Path, seed: int) -> AsyncIterator[Mesh]:
    """Three servers, each of which has been told by command to trust the others, over ways of which each is its own."""
    chance = random.Random(seed)
    async with AsyncExitStack() as stack:
        nodes = [Node(f"{letter}.test", folder / letter) for letter in "abc"]
        for node in nodes:
            stack.push_async_callback(node.close)
            await node.prepare(USERS, ADDRESSES)
        await asyncio.gather(*(node.start() for node in nodes))
        ways = []
        for node in nodes:
            for peer in nodes:
                if node is not peer:
                    way = Way(peer.port, chance)
                    port = await way.open()
                    stack.push_async_callback(way.close)
                    ways.append(way)
                    await node.command("peers", "add", peer.name, f"http://{HOST}:{port}", "--yes")
        yield Mesh(nodes, ways, chance)
