"""People with a bare client: verbs over HTTP, each a request or two, so that stories can be told in them.

A person hears of things only by /sync (``hears``, ``until``), and asks only where the verb says so.
"""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import httpx

from identity_server.matrix.homeserver_client import HomeserverClient
from identity_server.matrix.identity_client import IdentityClient
from identity_server.matrix.json_api import JsonApi, Refused
from tests.interop.servers import Homeserver, World
from tests.interop.views import Json, RoomView, View

CLIENT = "/_matrix/client/v3"
PASSWORD = "correct horse battery staple"
PATIENCE_SECONDS = 20
_POLL_MS = 5000
_HTTP_SECONDS = 60
# So that no story's timeline has gaps.
_FILTER = json.dumps({"room": {"timeline": {"limit": 100}}})

# Of users, transactions, files: nobody else has the same in this run.
numbers = itertools.count(int(time.time() * 1000))


class Person:
    """``api`` is her homeserver's client API."""

    def __init__(self, server: Homeserver, http: httpx.AsyncClient) -> None:
        self.server = server
        self.http = http
        self.api = JsonApi(http, server.url)
        self.user_id = ""
        self.device_id = ""
        self.view = View()
        self._since: str | None = None

    def __repr__(self) -> str:
        return f"{self.user_id} ({self.server.software})"

    # Accounts

    async def registers(self, name: str) -> None:
        """As ``name`` and a number that nobody else has."""
        username = f"{name}-{next(numbers):x}"
        wanted: Json = {"username": username, "password": PASSWORD}
        try:
            answer = await self.asks("POST", "/register", wanted)
        except Refused as error:
            if error.status != 401:
                raise
            wanted["auth"] = {"type": "m.login.dummy", "session": error.body["session"]}
            answer = await self.asks("POST", "/register", wanted)
        self.api.token = answer["access_token"]
        self.user_id, self.device_id = answer["user_id"], answer["device_id"]
        await self.syncs()  # the first tells of no room that was left before it: then nobody may be kicked

    async def logs_in(self, user_id: str) -> None:
        """As somebody who has registered, with a new device."""
        identifier = {"type": "m.id.user", "user": user_id}
        answer = await self.asks(
            "POST", "/login", {"type": "m.login.password", "identifier": identifier, "password": PASSWORD}
        )
        self.api.token = answer["access_token"]
        self.user_id, self.device_id = answer["user_id"], answer["device_id"]

    async def at(self, world: World) -> IdentityClient:
        """Her account at the identity server."""
        client = IdentityClient(JsonApi(self.http, world.identity.url))
        await client.register(await HomeserverClient(self.api).openid_token(self.user_id))
        return client

    async def asks(self, method: str, path: str, body: Json | None = None, **params: Any) -> Json:
        """Of the client API; raises ``Refused``."""
        if body is None and method in ("POST", "PUT"):
            body = {}
        texts = {name: _text(value) for name, value in params.items() if value is not None}
        return await self.api.call(
            method, path if path.startswith("/_matrix") else CLIENT + path, body, params=texts or None
        )

    # What she does in rooms

    async def creates_room(self, version: str | None = None, **options: Any) -> str:
        if version is not None:
            options["room_version"] = version
        room_id: str = (await self.asks("POST", "/createRoom", options))["room_id"]
        return room_id

    async def invites(self, room_id: str, who: "Person", reason: str | None = None) -> None:
        await self._moves("invite", room_id, who, reason)

    async def kicks(self, room_id: str, who: "Person", reason: str | None = None) -> None:
        await self._moves("kick", room_id, who, reason)

    async def bans(self, room_id: str, who: "Person", reason: str | None = None) -> None:
        await self._moves("ban", room_id, who, reason)

    async def unbans(self, room_id: str, who: "Person") -> None:
        await self._moves("unban", room_id, who, None)

    async def joins(self, room: str, via: "Homeserver | None" = None) -> str:
        """By ID or alias; ``via`` is a server to ask that is in the room."""
        answer = await self.asks("POST", f"/join/{quoted(room)}", **_by_way_of(via))
        room_id: str = answer["room_id"]
        return room_id

    async def knocks(self, room: str, via: Homeserver, reason: str) -> None:
        await self.asks("POST", f"/knock/{quoted(room)}", {"reason": reason}, **_by_way_of(via))

    async def leaves(self, room_id: str) -> None:
        await self.asks("POST", f"/rooms/{quoted(room_id)}/leave")

    async def sends(self, room_id: str, event_type: str, content: Json) -> str:
        path = f"/rooms/{quoted(room_id)}/send/{event_type}/{next(numbers)}"
        event_id: str = (await self.asks("PUT", path, content))["event_id"]
        return event_id

    async def says(self, room_id: str, body: str) -> str:
        return await self.sends(room_id, "m.room.message", {"msgtype": "m.text", "body": body})

    async def redacts(self, room_id: str, event_id: str, reason: str) -> str:
        path = f"/rooms/{quoted(room_id)}/redact/{quoted(event_id)}/{next(numbers)}"
        redaction_id: str = (await self.asks("PUT", path, {"reason": reason}))["event_id"]
        return redaction_id

    async def sets(self, room_id: str, event_type: str, content: Json, state_key: str = "") -> str:
        path = f"/rooms/{quoted(room_id)}/state/{event_type}/{quoted(state_key)}"
        event_id: str = (await self.asks("PUT", path, content))["event_id"]
        return event_id

    async def empowers(self, room_id: str, level: int, *people: "Person") -> None:
        levels = await self.state(room_id, "m.room.power_levels")
        levels["users"] = {**levels.get("users", {}), **{person.user_id: level for person in people}}
        await self.sets(room_id, "m.room.power_levels", levels)

    async def types(self, room_id: str, *, typing: bool = True) -> None:
        path = f"/rooms/{quoted(room_id)}/typing/{quoted(self.user_id)}"
        await self.asks("PUT", path, {"typing": typing, **({"timeout": 30_000} if typing else {})})

    async def reads(self, room_id: str, event_id: str) -> None:
        await self.asks("POST", f"/rooms/{quoted(room_id)}/receipt/m.read/{quoted(event_id)}")

    async def _moves(self, verb: str, room_id: str, who: "Person", reason: str | None) -> None:
        body = {"user_id": who.user_id, **({"reason": reason} if reason else {})}
        await self.asks("POST", f"/rooms/{quoted(room_id)}/{verb}", body)

    # What she asks

    async def state(self, room_id: str, event_type: str, state_key: str = "") -> Json:
        return await self.asks("GET", f"/rooms/{quoted(room_id)}/state/{event_type}/{quoted(state_key)}")

    async def whole_state(self, room_id: str) -> dict[tuple[str, str], Json]:
        answer = await self.http.get(
            f"{self.server.url}{CLIENT}/rooms/{quoted(room_id)}/state",
            headers={"Authorization": f"Bearer {self.api.token}"},
        )
        assert answer.status_code == 200, answer.text
        return {(event["type"], event["state_key"]): event for event in answer.json()}

    async def members(self, room_id: str) -> dict[str, str]:
        answer = await self.asks("GET", f"/rooms/{quoted(room_id)}/members")
        return {event["state_key"]: event["content"]["membership"] for event in answer["chunk"]}

    async def event(self, room_id: str, event_id: str) -> Json:
        return await self.asks("GET", f"/rooms/{quoted(room_id)}/event/{quoted(event_id)}")

    async def history(self, room_id: str, page: int = 10) -> list[Json]:
        """All of it that she may see, newest first, page by page."""
        events: list[Json] = []
        start: str | None = None
        while True:
            path = f"/rooms/{quoted(room_id)}/messages"
            answer = await self.asks("GET", path, dir="b", limit=page, **({"from": start} if start else {}))
            events += answer["chunk"]
            start = answer.get("end")
            if start is None:
                return events

    # What she hears of

    async def syncs(self, timeout_ms: int = 0) -> Json:
        answer = await self.asks("GET", "/sync", since=self._since, timeout=timeout_ms, filter=_FILTER)
        self._since = answer["next_batch"]
        for room_id, told in answer.get("rooms", {}).get("join", {}).items():
            timeline = told.get("timeline", {})
            if timeline.get("limited") and self.view.room(room_id).timeline:
                timeline["events"] = await self._missed(room_id, timeline["prev_batch"]) + timeline["events"]
        self.view.apply(answer)
        return answer

    async def _missed(self, room_id: str, start: str | None) -> list[Json]:
        """What was left out of a limited timeline, oldest first: back to what is known."""
        known = {event["event_id"] for event in self.view.room(room_id).timeline}
        missed: list[Json] = []
        while start is not None:
            answer = await self.asks("GET", f"/rooms/{quoted(room_id)}/messages", **{"dir": "b", "from": start})
            new = list(itertools.takewhile(lambda event: event["event_id"] not in known, answer["chunk"]))
            missed += new
            start = answer.get("end") if len(new) == len(answer["chunk"]) else None
        return missed[::-1]

    async def until(self, holds: Callable[[View], Any], what: str) -> Any:
        """Sync until ``holds`` is true, and what it answered then; ``what`` is it, for when it never is."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self.syncs()
                while not (result := holds(self.view)):
                    await self.syncs(_POLL_MS)
                return result
        except TimeoutError:
            raise AssertionError(f"{self} never saw {what}; rooms: {self.view.rooms}") from None

    async def hears(self, room_id: str, event_id: str) -> Json:
        """The event, once it is in the timeline."""
        event: Json = await self.until(lambda view: view.room(room_id).event(event_id), f"{event_id} in {room_id}")
        return event

    async def sees(self, room_id: str, event_type: str, content: Json, state_key: str = "") -> None:
        """State with at least this content."""
        await self.until(
            lambda view: content.items() <= view.room(room_id).content(event_type, state_key).items(),
            f"{event_type} {state_key} to be {content}",
        )

    async def sees_membership(self, room_id: str, who: "Person", membership: str) -> RoomView:
        room: RoomView = await self.until(
            lambda view: view.room(room_id).membership_of(who.user_id) == membership and view.room(room_id),
            f"{membership} of {who}",
        )
        return room

    async def is_invited(self, room_id: str) -> RoomView:
        room: RoomView = await self.until(
            lambda view: view.room(room_id).membership == "invite" and view.room(room_id), f"an invitation to {room_id}"
        )
        return room

    async def has_left(self, room_id: str) -> RoomView:
        """Of her own will or not."""
        room: RoomView = await self.until(
            lambda view: view.room(room_id).membership == "leave" and view.room(room_id), f"that she left {room_id}"
        )
        return room


class People:
    """Brings people into the world, and closes their clients after the story."""

    def __init__(self, world: World, http: httpx.AsyncClient) -> None:
        self.world = world
        self._http = http

    async def __call__(self, name: str, server: Homeserver) -> Person:
        person = Person(server, self._http)
        await person.registers(name)
        return person

    async def again(self, person: Person) -> Person:
        """The same person on another device."""
        other = Person(person.server, self._http)
        await other.logs_in(person.user_id)
        return other


@asynccontextmanager
async def open_people(world: World) -> AsyncIterator[People]:
    async with httpx.AsyncClient(timeout=_HTTP_SECONDS, trust_env=False, verify=world.trust) as http:
        yield People(world, http)


def quoted(part: str) -> str:
    return quote(part, safe="")


def alike(*answers: Sequence[Any]) -> bool:
    return all(answer == answers[0] for answer in answers)


def _by_way_of(server: Homeserver | None) -> dict[str, str]:
    """As it was called, and as it is called since v1.12."""
    return {"server_name": server.name, "via": server.name} if server else {}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
