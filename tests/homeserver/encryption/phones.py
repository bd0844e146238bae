"""Clients that have keys of their own, and rooms that they meet in."""

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson
from httpx import AsyncClient, Response
from sqlalchemy import delete, select, update

from identity_server.homeserver.streams import advance
from identity_server.homeserver.timeline.models import Membership, RoomServer, StateChange, StoredEventRow
from identity_server.matrix.identifiers import domain_of
from identity_server.matrix.signing import SigningKey, sign_json
from tests.homeserver.conftest import Register, bearing

V3 = "/_matrix/client/v3"


def signing_key(name: str, key_id: str | None = None) -> SigningKey:
    """The key that belongs to ``name``; its ID is its public key unless one is given."""
    seed = hashlib.sha256(name.encode()).digest()
    public = SigningKey.from_seed("ed25519:", seed).verify_key.base64
    return SigningKey.from_seed(f"ed25519:{key_id or public}", seed)


def public(key: SigningKey) -> str:
    return key.verify_key.base64


class Identity:
    """A user's cross-signing keys; ``name`` makes other ones."""

    def __init__(self, user_id: str, name: str = "first") -> None:
        self.user_id = user_id
        self.master, self.self_signing, self.user_signing = (
            signing_key(f"{user_id} {name} {usage}") for usage in ("master", "self_signing", "user_signing")
        )

    @property
    def master_key(self) -> dict[str, Any]:
        return self._key("master", self.master)

    def keys(self) -> dict[str, Any]:
        """The body of an upload."""
        others = {usage: self._key(usage, getattr(self, usage)) for usage in ("self_signing", "user_signing")}
        signed = {f"{usage}_key": sign_json(key, self.user_id, self.master) for usage, key in others.items()}
        return {"master_key": self.master_key, **signed}

    def _key(self, usage: str, key: SigningKey) -> dict[str, Any]:
        return {"user_id": self.user_id, "usage": [usage], "keys": {key.verify_key.key_id: public(key)}}


class Phone:
    """A device that is logged in."""

    def __init__(self, client: AsyncClient, login: Mapping[str, Any]) -> None:
        self._client = client
        self._headers = bearing(dict(login))
        self.user_id: str = login["user_id"]
        self.device_id: str = login["device_id"]
        self.key = signing_key(f"{self.user_id} {self.device_id}", self.device_id)

    async def ask(self, method: str, path: str, body: Any = None, **params: Any) -> Response:
        base = "" if path.startswith("/_matrix") else V3
        return await self._client.request(method, base + path, json=body, params=params or None, headers=self._headers)

    async def ok(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        answer = await self.ask(method, path, body, **params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def device_keys(self, **more: Any) -> dict[str, Any]:
        keys = {
            "user_id": self.user_id,
            "device_id": self.device_id,
            "algorithms": ["m.olm.v1.curve25519-aes-sha2", "m.megolm.v1.aes-sha2"],
            "keys": {
                f"curve25519:{self.device_id}": public(signing_key("curve " + self.device_id)),
                f"ed25519:{self.device_id}": public(self.key),
            },
            **more,
        }
        return sign_json(keys, self.user_id, self.key)

    def one_time_key(self, name: str, **more: Any) -> dict[str, Any]:
        return sign_json({"key": public(signing_key(name)), **more}, self.user_id, self.key)

    def one_time_keys(self, *names: str) -> dict[str, Any]:
        return {f"signed_curve25519:{name}": self.one_time_key(name) for name in names}

    async def upload(self, **body: Any) -> dict[str, int]:
        counts: dict[str, int] = (await self.ok("POST", "/keys/upload", body))["one_time_key_counts"]
        return counts

    async def query(self, *user_ids: str) -> Any:
        return await self.ok("POST", "/keys/query", {"device_keys": {user_id: [] for user_id in user_ids}})

    async def claim(self, *phones: "Phone") -> Any:
        wanted: dict[str, dict[str, str]] = {}
        for phone in phones:
            wanted.setdefault(phone.user_id, {})[phone.device_id] = "signed_curve25519"
        return (await self.ok("POST", "/keys/claim", {"one_time_keys": wanted}))["one_time_keys"]

    async def sign_in(self, device_id: str) -> "Phone":
        """Another device of the same user."""
        identifier = {"type": "m.id.user", "user": self.user_id}
        body = {"type": "m.login.password", "identifier": identifier, "password": "correct horse"}
        return Phone(self._client, await self.ok("POST", "/login", {**body, "device_id": device_id}))


async def phone(client: AsyncClient, register: Register, name: str = "alice", device_id: str = "PHONE") -> Phone:
    return Phone(client, await register(name, device_id=device_id))


async def move(state: Mapping[str, Any], room_id: str, user_id: str, membership: str) -> int:
    """Have ``user_id`` come or go, as far as the tables of the timeline tell; the position of it."""
    async with state["resources"].database.transaction() as session:
        position = await advance(session, state["streams"], room_id, user_id)
        event_id, server = f"$move{position}", domain_of(user_id)
        pdu = {"content": {"membership": membership}}
        session.add(
            StoredEventRow(
                event_id=event_id,
                room_id=room_id,
                version="12",
                position=position,
                standing="accepted",
                is_ours=True,
                type="m.room.member",
                state_key=user_id,
                sender=user_id,
                depth=position,
                origin_server_ts=position,
                state_group=None,
                pdu=orjson.dumps(pdu).decode(),
            )
        )
        session.add(StateChange(room_id, "m.room.member", user_id, position, event_id))
        this = (Membership.user_id == user_id) & (Membership.room_id == room_id)
        former = await session.scalar(select(Membership).where(this))
        since = former.joined_position if former and former.membership == "join" else position
        await session.execute(delete(Membership).where(this))
        joined_position = since if membership == "join" else None
        session.add(Membership(user_id, room_id, server, membership, event_id, user_id, position, joined_position))
        await session.flush()
        is_there = (RoomServer.server_name == server) & (RoomServer.room_id == room_id) & RoomServer.until.is_(None)
        everybody = (Membership.server_name == server) & (Membership.room_id == room_id)
        anybody = await session.scalar(select(Membership.user_id).where(everybody, Membership.membership == "join"))
        known = await session.scalar(select(RoomServer.since).where(is_there))
        if anybody and known is None:
            session.add(RoomServer(server, room_id, position, None))
        elif not anybody and known is not None:
            await session.execute(update(RoomServer).where(is_there).values(until=position))
    return position


async def meet(state: Mapping[str, Any], *user_ids: str, room_id: str = "!room") -> None:
    for user_id in user_ids:
        await move(state, room_id, user_id, "join")
