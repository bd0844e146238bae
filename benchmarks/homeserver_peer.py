"""Another server in a federation, made for measuring: it makes rooms as it is told, lets in whoever asks, and sends.

Run as ``python -m benchmarks.homeserver_peer FOLDER PORT``, with the authority's files in the folder; it takes commands
as lines of JSON and answers each with one.
"""

import asyncio
import json
import ssl
import sys
import time
from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.homeserver_client import Client
from identity_server.homeserver.events.auth_rules import auth_keys
from identity_server.homeserver.events.event import Event, StateKey
from identity_server.homeserver.events.hashing import seal
from identity_server.homeserver.events.reading import read_event
from identity_server.homeserver.events.versions import room_version
from identity_server.matrix.origin_auth import authorization
from identity_server.matrix.server_keys import publish
from identity_server.matrix.signing import SigningKey

_V1, _V2 = "/_matrix/federation/v1", "/_matrix/federation/v2"
_VERSION = room_version("11")
_BATCH = 50


class Room:
    """A chain of events, each after the one before."""

    def __init__(self, server_name: str, key: SigningKey) -> None:
        self._server_name = server_name
        self._key = key
        self.creator = f"@creator:{server_name}"
        self.room_id = f"!{time.monotonic_ns():x}:{server_name}"
        self.state: dict[StateKey, Event] = {}
        self.events: dict[str, Event] = {}
        self.last: Event | None = None
        self.add("m.room.create", self.creator, {"room_version": _VERSION.identifier}, "")
        self.join(self.creator)
        self.add("m.room.power_levels", self.creator, {"users": {self.creator: 100}}, "")
        self.add("m.room.join_rules", self.creator, {"join_rule": "public"}, "")
        self.add("m.room.history_visibility", self.creator, {"history_visibility": "shared"}, "")

    def join(self, user_id: str) -> Event:
        content = {"membership": "join", "displayname": user_id[1:].partition(":")[0].title()}
        return self.add("m.room.member", user_id, content, user_id)

    def add(self, event_type: str, sender: str, content: Mapping[str, Any], state_key: str | None = None) -> Event:
        return self.take(
            seal(self.draft(event_type, sender, content, state_key), _VERSION, self._server_name, self._key)
        )

    def draft(
        self, event_type: str, sender: str, content: Mapping[str, Any], state_key: str | None = None
    ) -> dict[str, Any]:
        keys = auth_keys(event_type, sender, state_key, content, _VERSION)
        pdu: dict[str, Any] = {
            "room_id": self.room_id,
            "type": event_type,
            "sender": sender,
            "content": dict(content),
            "origin_server_ts": int(time.time() * 1000),
            "depth": self.last.depth + 1 if self.last else 1,
            "prev_events": [self.last.event_id] if self.last else [],
            "auth_events": [self.state[key].event_id for key in sorted(keys) if key in self.state],
        }
        return pdu if state_key is None else {**pdu, "state_key": state_key}

    def take(self, event: Event) -> Event:
        self.last = self.events[event.event_id] = event
        if event.is_state:
            self.state[event.key] = event
        return event

    def auth_chain(self, *events: Event) -> list[Event]:
        chain: dict[str, Event] = {}
        todo = [event_id for event in events for event_id in event.auth_events]
        while todo:
            event_id = todo.pop()
            if event_id not in chain:
                chain[event_id] = self.events[event_id]
                todo += self.events[event_id].auth_events
        return list(chain.values())


class Peer:
    def __init__(self, folder: Path, port: int) -> None:
        self.name = f"localhost:{port}"
        self._key = SigningKey.from_seed("ed25519:peer", bytes(range(32)))
        self._trust = ssl.create_default_context(cafile=folder / "ca.pem")
        self.rooms: dict[str, Room] = {}
        self._transactions = 0

    def build(self, members: int, state: int) -> Room:
        """``state`` counts all state events, members too."""
        room = Room(self.name, self._key)
        for number in range(members - 1):
            room.join(f"@member{number}:{self.name}")
        number = 0
        while len(room.state) < state:
            number += 1
            room.add("org.example.item", room.creator, {"text": f"Item {number}"}, str(number))
        self.rooms[room.room_id] = room
        return room

    async def push(self, target: str, rooms: list[Room], count: int) -> dict[str, str]:
        """Sends ``count`` messages in full batches, one after the other, to each of ``rooms`` in turn; by room, the ID
        of the last.
        """
        client = Client(int(target.rpartition(":")[2]), trust=self._trust)
        said = [
            room.add("m.room.message", room.creator, {"msgtype": "m.text", "body": f"Message {number}"})
            for number, room in zip(range(count), cycle(rooms), strict=False)
        ]
        for start in range(0, count, _BATCH):
            self._transactions += 1
            path = f"{_V1}/send/{self._transactions}-{time.monotonic_ns()}"
            transaction = {
                "origin": self.name,
                "origin_server_ts": int(time.time() * 1000),
                "pdus": [event.pdu for event in said[start : start + _BATCH]],
            }
            header = authorization(
                self._key, origin=self.name, destination=target, method="PUT", uri=path, content=transaction
            )
            answer = await client.call("PUT", path, transaction, header)
            refused = {event_id: result for event_id, result in answer.get("pdus", {}).items() if result}
            assert not refused, refused
        await client.close()
        return {room.room_id: room.last.event_id for room in rooms if room.last}

    # What it serves

    def application(self) -> Starlette:
        routes = [
            ("/_matrix/key/v2/server", "GET", self._keys),
            (_V1 + "/make_join/{room_id}/{user_id}", "GET", self._make_join),
            (_V2 + "/send_join/{room_id}/{event_id}", "PUT", self._send_join),
            (_V1 + "/state_ids/{room_id}", "GET", self._state_ids),
            (_V1 + "/event/{event_id}", "GET", self._event),
            (_V1 + "/send/{transaction}", "PUT", self._receive),
            (_V1 + "/user/devices/{user_id}", "GET", self._devices),
            (_V1 + "/backfill/{room_id}", "GET", self._backfill),
        ]
        return Starlette(
            routes=[Route(path.replace("}", ":path}", 0), act, methods=[method]) for path, method, act in routes]
        )

    async def _keys(self, _request: Request) -> Response:
        return _json(publish(self.name, [self._key], now_ms=int(time.time() * 1000)))

    async def _make_join(self, request: Request) -> Response:
        room, user_id = self.rooms[request.path_params["room_id"]], request.path_params["user_id"]
        draft = room.draft("m.room.member", user_id, {"membership": "join"}, user_id)
        return _json({"room_version": _VERSION.identifier, "event": draft})

    async def _send_join(self, request: Request) -> Response:
        room = self.rooms[request.path_params["room_id"]]
        join = read_event(await request.json(), _VERSION)
        before = list(room.state.values())
        chain = room.auth_chain(*before)
        room.take(join)
        return _json(
            {
                "event": join.pdu,
                "state": [event.pdu for event in before],
                "auth_chain": [event.pdu for event in chain],
                "members_omitted": False,
                "servers_in_room": [self.name],
                "origin": self.name,
            }
        )

    async def _state_ids(self, request: Request) -> Response:
        room = self.rooms[request.path_params["room_id"]]
        state = list(room.state.values())
        return _json(
            {
                "pdu_ids": [event.event_id for event in state],
                "auth_chain_ids": [event.event_id for event in room.auth_chain(*state)],
            }
        )

    async def _event(self, request: Request) -> Response:
        event_id = request.path_params["event_id"]
        for room in self.rooms.values():
            if event := room.events.get(event_id):
                return _transaction(self.name, [event.pdu])
        return _json({"errcode": "M_NOT_FOUND", "error": "There is no such event"}, 404)

    async def _receive(self, request: Request) -> Response:
        return _json({"pdus": {}})

    async def _devices(self, request: Request) -> Response:
        return _json({"user_id": request.path_params["user_id"], "stream_id": 1, "devices": []})

    async def _backfill(self, _request: Request) -> Response:
        return _transaction(self.name, [])


def _transaction(origin: str, pdus: list[Any]) -> Response:
    return _json({"origin": origin, "origin_server_ts": int(time.time() * 1000), "pdus": pdus})


def _json(body: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")


async def main(folder: Path, port: int) -> None:
    peer = Peer(folder, port)
    server = uvicorn.Server(
        uvicorn.Config(
            peer.application(),
            port=port,
            log_config=None,
            access_log=False,
            ssl_certfile=folder / "certificate.pem",
            ssl_keyfile=folder / "key.pem",
        )
    )
    serving = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    print(json.dumps({"ready": peer.name}), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        match json.loads(line):
            case {"build": {"members": members, "state": state}}:
                answer: dict[str, Any] = {"room_id": peer.build(members, state).room_id}
            case {"push": {"rooms": room_ids, "target": target, "count": count}}:
                answer = {"last": await peer.push(target, [peer.rooms[room_id] for room_id in room_ids], count)}
            case unknown:
                raise ValueError(f"unknown command {unknown}")
        print(json.dumps(answer), flush=True)
    server.should_exit = True
    await serving


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
