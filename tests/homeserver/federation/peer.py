"""A server that says and signs whatever a test wants, to a homeserver of ours."""

import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from canonicaljson import encode_canonical_json
from httpx import Response
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from unpaddedbase64 import encode_base64

from identity_server.demo.serving import free_port
from identity_server.homeserver.events.event import Event, StateKey
from identity_server.homeserver.events.hashing import event_id, hash_and_sign
from identity_server.homeserver.events.redaction import redact
from identity_server.homeserver.events.versions import VERSIONS, RoomVersion
from identity_server.matrix.origin_auth import NO_CONTENT, Credentials
from identity_server.matrix.server_keys import publish
from identity_server.matrix.signing import SigningKey
from identity_server.runtime.clock import SystemClock
from tests.homeserver.federation.servers import Authority, Homeserver, Json, tls_server

V1 = "/_matrix/federation/v1"


@dataclass
class Peer:
    """``answers``: what it says when it is asked, by the beginning of the path after ``/_matrix/federation/v1/``."""

    here: Homeserver
    port: int
    key: SigningKey
    host: str = "localhost"
    answers: dict[str, Callable[[Request], Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    received: list[Json] = field(default_factory=list)
    rooms: "dict[str, PeerRoom]" = field(default_factory=dict)
    _transactions: Any = field(default_factory=itertools.count)

    @property
    def name(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def mallory(self) -> str:
        return f"@mallory:{self.name}"

    async def ask(self, method: str, path: str, body: Any = NO_CONTENT, **headers: str) -> Response:
        signed = {"method": method, "uri": path, "origin": self.name, "destination": self.here.name}
        sent: Json = {}
        if body is not NO_CONTENT:
            signed, sent = {**signed, "content": body}, {"json": body}
        # Not our own encoding, which refuses what a peer may want to say.
        signature = encode_base64(self.key.key.sign(encode_canonical_json(signed)).signature)
        header = Credentials(self.name, self.key.key_id, signature, self.here.name).header()
        return await self.here.client.request(method, path, headers={"Authorization": header, **headers}, **sent)

    async def joins(self, room_id: str, user_id: str | None = None) -> "PeerRoom":
        user_id = user_id or self.mallory
        versions = "&".join(f"ver={version}" for version in VERSIONS)
        made = await self.ask("GET", f"{V1}/make_join/{quote(room_id)}/{quote(user_id)}?{versions}")
        assert made.status_code == 200, made.text
        version = VERSIONS[made.json()["room_version"]]
        template = made.json()["event"]
        template.pop("origin")
        pdu = hash_and_sign(template, version, self.name, self.key)
        event = Event(event_id(pdu, version), pdu, version)
        path = f"/_matrix/federation/v2/send_join/{quote(room_id)}/{quote(event.event_id)}"
        answer = await self.ask("PUT", path, pdu)
        assert answer.status_code == 200, answer.text
        told = answer.json()
        state = {}
        for one in told["state"]:
            known = Event(event_id(one, version), one, version)
            state[known.key] = known
        state[event.key] = event
        self.rooms[room_id] = PeerRoom(self, room_id, version, state, event, user_id)
        return self.rooms[room_id]

    async def send(self, *pdus: Any, edus: Sequence[Any] = (), transaction_id: str | None = None) -> Json:
        """What the homeserver says of each."""
        name = transaction_id or f"t{next(self._transactions)}"
        body = {"origin": self.name, "origin_server_ts": 1, "pdus": list(pdus), "edus": list(edus)}
        answer = await self.ask("PUT", f"{V1}/send/{name}", body)
        assert answer.status_code == 200, answer.text
        results: Json = answer.json()["pdus"]
        return results

    async def hear(self, request: Request) -> Response | JSONResponse:
        path = request.url.path
        if path.startswith("/_matrix/key/v2/server"):
            return JSONResponse(publish(self.name, [self.key], now_ms=SystemClock().now_ms()))
        asked = path.removeprefix(f"{V1}/").removeprefix("/_matrix/federation/v2/")
        self.asked.append(asked)
        request.state.body = await request.json() if request.method in ("POST", "PUT") else {}
        if asked.startswith("send/"):
            self.received.append(await request.json())
            return JSONResponse({"pdus": {}})
        for beginning, answer in self.answers.items():
            if asked.startswith(beginning):
                said = answer(request)
                return said if isinstance(said, JSONResponse) else JSONResponse(said)
        return JSONResponse({"errcode": "M_NOT_FOUND", "error": "no"}, 404)


@dataclass
class PeerRoom:
    """A room as the peer sees it; ``last`` is what its next event follows."""

    peer: Peer
    room_id: str
    version: RoomVersion
    state: dict[StateKey, Event]
    last: Event
    user_id: str

    def event(self, type_: str = "m.room.message", content: Any = None, **fields: Any) -> Event:
        """A signed event of the peer's user after the last; ``fields`` are put over what is right."""
        auth = [("m.room.power_levels", ""), ("m.room.member", self.user_id)]
        if not self.version.room_id_is_create_event_id:
            auth.append(("m.room.create", ""))
        pdu = {
            "room_id": self.room_id,
            "type": type_,
            "sender": self.user_id,
            "content": {"body": "hello"} if content is None else content,
            "depth": self.last.depth + 1,
            "prev_events": [self.last.event_id],
            "auth_events": [self.state[key].event_id for key in auth if key in self.state],
            "origin_server_ts": SystemClock().now_ms(),
            **fields,
        }
        return self.sign({name: value for name, value in pdu.items() if value is not ...})

    def sign(self, pdu: Json) -> Event:
        signed = hash_and_sign(pdu, self.version, self.peer.name, self.peer.key)
        return Event(event_id(signed, self.version), signed, self.version)

    def then(self, *args: Any, **fields: Any) -> Event:
        """As ``event``, and the next follows it."""
        self.last = self.event(*args, **fields)
        if self.last.is_state:
            self.state[self.last.key] = self.last
        return self.last


def redacted(event: Event) -> Json:
    return redact(event.pdu, event.version)


@asynccontextmanager
async def open_peer(
    here: Homeserver, authority: Authority, seed: bytes = b"p" * 32, host: str = "localhost"
) -> AsyncIterator[Peer]:
    peer = Peer(here, free_port(), SigningKey.from_seed("ed25519:p", seed), host)
    app = Starlette(routes=[Route("/{path:path}", peer.hear, methods=["GET", "POST", "PUT"])])
    async with tls_server(app, peer.port, authority):
        yield peer
