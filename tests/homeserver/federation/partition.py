"""Three homeservers that lose each other from time to time, and people who go on writing on all sides."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import select

from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.stored import EVENTS
from identity_server.matrix.http import Answer, Endpoint, Http, Unreachable
from tests.homeserver.federation.servers import Authority, Homeserver, Person, until

_VERSIONS = ("10", "11", "12")
_ROUNDS = 3
_WRITES = 6
_PATIENCE_SECONDS = 90


@dataclass
class Net:
    """The ways between servers, each by the two ports; what is on none of them gets through."""

    chance: random.Random
    cut: set[tuple[int, int]] = field(default_factory=set)
    faulty: bool = False
    met: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("lost", "unanswered", "twice", "slow"), 0))

    def part(self, ports: list[int]) -> None:
        """Some ways are cut, in one direction or in both."""
        ways = [(a, b) for a in ports for b in ports if a != b]
        self.cut = set(self.chance.sample(ways, self.chance.randint(1, len(ways) - 1)))
        self.faulty = True

    def heal(self) -> None:
        self.cut.clear()
        self.faulty = False


@dataclass
class Line:
    """The network as one server has it."""

    http: Http
    port: int
    net: Net

    async def request(self, method: str, target: Endpoint | str, path: str = "", **more: Any) -> Answer:
        there = target.port if isinstance(target, Endpoint) else 0
        if (self.port, there) in self.net.cut:
            self.net.met["lost"] += 1
            raise Unreachable("no way there")
        fate = self.net.chance.random() if self.net.faulty else 1
        if fate < 0.1:
            self.net.met["slow"] += 1
            await asyncio.sleep(self.net.chance.uniform(0.01, 0.3))
        answer = await self.http.request(method, target, path, **more)
        if 0.1 <= fate < 0.2:
            self.net.met["unanswered"] += 1
            raise Unreachable("the answer got lost")
        if 0.2 <= fate < 0.3:
            self.net.met["twice"] += 1
            answer = await self.http.request(method, target, path, **more)
        return answer


@dataclass
class Partition:
    """On each server there is somebody who stays, so that it stays a server of the room, and a guest who may be kept
    out."""

    servers: list[Homeserver]
    people: list[Person]
    guests: list[Person]
    net: Net
    chance: random.Random
    room_id: str = ""
    since_depth: int = 2**53  # before they are together, only the state is compared

    async def gather(self) -> None:
        """Everybody into one room, in which everybody may do much."""
        creator, *others = self.people
        users = {person.user_id: self.chance.choice((50, 100)) for person in (*others, *self.guests)}
        version = self.chance.choice(_VERSIONS)
        if version != "12":
            users[creator.user_id] = 100
        self.room_id = await creator.creates(
            preset="public_chat", room_version=version, power_level_content_override={"users": users}
        )
        for person in (*others, *self.guests):
            await person.joins(self.room_id, creator.server.name)
        # Who comes last does not hear of what another server sent before it knew; it follows from what comes next.
        await creator.says(self.room_id, "all here")
        await until(self.is_same)
        async with self.servers[0].state["resources"].database.reading() as session:
            depths = await session.scalars(select(EVENTS.c.depth).where(EVENTS.c.room_id == self.room_id))
            self.since_depth = max(depths)

    async def disturb(self) -> None:
        for _ in range(_ROUNDS):
            self.net.part([server.port for server in self.servers])
            await asyncio.gather(*(self._write(person) for person in (*self.people, *self.guests)))
            self.net.heal()
            await self.mend()

    async def mend(self) -> None:
        """They learn of each other again, and one of them draws the branches together."""
        for server in self.servers:
            for other in self.servers:
                if other is not server:
                    server.state["federation_sender"].heard_from(other.name)
        await self.people[0].says(self.room_id, "healed")

    async def come_to_rest(self) -> None:
        """What one side would not show (soft failure) the other side's next event brings in again: so each speaks."""
        for _ in range(_ROUNDS):
            for person in self.people:
                await until(self.has_same_events, _PATIENCE_SECONDS)
                await person.says(self.room_id, "at rest")
        await until(self.is_same, _PATIENCE_SECONDS)

    async def _write(self, person: Person) -> None:
        for _ in range(_WRITES):
            await self._act(person)
            await asyncio.sleep(self.chance.uniform(0, 0.03))

    async def _act(self, person: Person) -> None:
        """Whatever comes to mind; what the room does not allow is refused."""
        room = f"/rooms/{quote(self.room_id)}"
        number = self.chance.randrange(1_000_000)
        other = self.chance.choice(self.guests)
        match self.chance.randrange(13):
            case 0 | 1 | 2 | 3 | 4:
                await person.ask(
                    "PUT", f"{room}/send/m.room.message/{number}", {"msgtype": "m.text", "body": str(number)}
                )
            case 5 | 6:
                await person.ask("PUT", f"{room}/state/m.room.topic/", {"topic": str(number)})
            case 7:
                await person.ask("PUT", f"{room}/state/org.example.state/{number % 3}", {"value": number})
            case 8:
                await self._change_power(person, other, number)
            case 9:
                await person.ask("POST", f"{room}/{self.chance.choice(('kick', 'ban'))}", {"user_id": other.user_id})
            case 10:
                await person.ask("POST", f"{room}/unban", {"user_id": other.user_id})
            case 11:
                rule = self.chance.choice(("public", "invite"))
                await person.ask("PUT", f"{room}/state/m.room.join_rules/", {"join_rule": rule})
            case 12:
                await person.ask("POST", f"/join/{quote(self.room_id)}")

    async def _change_power(self, person: Person, other: Person, number: int) -> None:
        path = f"/rooms/{quote(self.room_id)}/state/m.room.power_levels/"
        levels = await person.ask("GET", path)
        if levels.status_code != 200:
            return
        content = levels.json()
        users = {**content.get("users", {}), other.user_id: self.chance.choice((0, 50, 100))}
        await person.ask(
            "PUT", path, {**content, "users": users, "events_default": 0, "notifications": {"room": number % 50}}
        )

    async def is_same(self) -> bool:
        """Whether all servers have the same events, and the same state of the room."""
        views = [await self.view(server) for server in self.servers]
        return all(view == views[0] for view in views)

    async def has_same_events(self) -> bool:
        views = [await self.view(server) for server in self.servers]
        return all(events == views[0][1] for _, events in views)

    async def view(self, server: Homeserver) -> tuple[dict[Any, str], set[str]]:
        async with server.state["resources"].database.reading() as session:
            state = await store.current_state_ids(session, self.room_id)
            events = await session.scalars(
                select(EVENTS.c.event_id).where(
                    EVENTS.c.room_id == self.room_id,
                    EVENTS.c.depth > self.since_depth,
                    EVENTS.c.standing.in_(("accepted", "soft_failed")),
                )
            )
            return state, set(events)

    async def difference(self) -> str:
        """For whoever has to find out why."""
        views = [await self.view(server) for server in self.servers]
        told = []
        for number, (state, events) in enumerate(views):
            others = [view for other, view in enumerate(views) if other != number]
            lacks = set.union(*(view[1] for view in others)) - events
            differs = {key: value for key, value in state.items() if any(view[0].get(key) != value for view in others)}
            told.append(f"{self.servers[number].name} lacks {len(lacks)} events: {sorted(lacks)[:5]}; has {differs}")
        return "\n".join(told)


@asynccontextmanager
async def open_partition(folder: Path, seed: int) -> AsyncIterator[Partition]:
    chance = random.Random(seed)
    net = Net(chance)
    authority = Authority(folder)
    async with AsyncExitStack() as stack:
        servers = [Homeserver(folder / name, f"sqlite:///{folder / name}.db", authority) for name in "abc"]
        for server in servers:
            await server.start()
            stack.push_async_callback(server.stop)
            client = server.state["federation_calls"].client
            client._http = Line(client._http, server.port, net)
        people = [await server.person(name) for server, name in zip(servers, ("ann", "ben", "cat"), strict=True)]
        guests = [await server.person("guest") for server in servers]
        yield Partition(servers, people, guests, net, chance)
