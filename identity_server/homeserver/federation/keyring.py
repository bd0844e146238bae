"""Other servers' keys: asked for when first needed, remembered for ever (Server-Server API, "Retrieving server keys").

A server that cannot be asked is asked after at the notaries that the settings name. What a server once said of its
keys stays: events that it signed are checked long after it is gone.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, NamedTuple

import orjson

from identity_server.homeserver.federation import key_store
from identity_server.homeserver.federation.calls import FederationCalls
from identity_server.homeserver.keys import ServerKeys
from identity_server.matrix.errors import BadGateway
from identity_server.matrix.http import Unreachable
from identity_server.matrix.json_api import Refused
from identity_server.matrix.server_keys import InvalidServerKeys, PublishedKeys, UnknownKey, check
from identity_server.matrix.signing import InvalidSignature, VerifyKey, verify_json
from identity_server.matrix.single_flight import SingleFlight
from identity_server.runtime.database import Database
from identity_server.runtime.dependencies import opened

_QUERY = "/_matrix/key/v2/query"
_PAUSE_MS = 15_000
_PAUSE_AFTER_FAILURE_MS = 3_000
_ASKING_MS = 10_000
_MAX_SERVERS = 5_000
_AT_ONCE = 50


@dataclass(frozen=True)
class KnownKey:
    key: VerifyKey
    valid_until_ts: int
    is_current: bool
    """Whether it signs requests too."""


class KeyNeeded(NamedTuple):
    """A signature by ``key_id`` of ``server_name`` is to be checked that was made at ``ts``."""

    server_name: str
    key_id: str
    ts: int


@dataclass
class _Known:
    keys: Mapping[str, KnownKey]
    ask_again_ts: int
    """Before that the server is not asked: it has just been."""


class KeyRing:
    """Keys by server, in memory over the database. Each server is asked at most once in 15 seconds."""

    def __init__(
        self,
        database: Database,
        calls: FederationCalls,
        own: ServerKeys,
        *,
        now_ms: Callable[[], int],
        notaries: Iterable[str] = (),
    ) -> None:
        self._database = database
        self._calls = calls
        self._own = own
        self._now_ms = now_ms
        self._notaries = tuple(notary for notary in notaries if notary != own.server_name)
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._flights: SingleFlight[str, None] = SingleFlight()
        self._asking = asyncio.Semaphore(_AT_ONCE)

    async def request_key(self, server_name: str, key_id: str) -> VerifyKey:
        """The key with which ``server_name`` signs requests now. Raises ``UnknownKey``."""
        now_ms = self._now_ms()

        def suffices(key: KnownKey) -> bool:
            return key.is_current and now_ms <= key.valid_until_ts

        return await self._key(server_name, key_id, suffices)

    async def event_key(self, server_name: str, key_id: str, ts: int) -> VerifyKey:
        """The key with which ``server_name`` signed events at ``ts``. Raises ``UnknownKey``.

        Room versions from 5 on want it to have been valid then ("Signing key validity period").
        """
        return await self._key(server_name, key_id, lambda key: ts <= key.valid_until_ts)

    async def event_keys(self, needed: Iterable[KeyNeeded]) -> dict[KeyNeeded, VerifyKey]:
        """Those of ``needed`` that could be had; servers are asked side by side."""
        by_server: dict[str, list[KeyNeeded]] = {}
        for one in set(needed):
            by_server.setdefault(one.server_name, []).append(one)
        found: dict[KeyNeeded, VerifyKey] = {}

        async def find(wanted: list[KeyNeeded]) -> None:
            # The latest first: once it is found, the others are known too.
            for one in sorted(wanted, key=lambda one: one.ts, reverse=True):
                try:
                    found[one] = await self.event_key(*one)
                except UnknownKey:
                    continue

        await asyncio.gather(*(find(wanted) for wanted in by_server.values()))
        return found

    async def _key(self, server_name: str, key_id: str, suffices: Callable[[KnownKey], bool]) -> VerifyKey:
        if server_name == self._own.server_name:
            return self._own.verify_key(key_id)
        key = (await self._recalled(server_name)).keys.get(key_id)
        if key is None or not suffices(key):
            await self.ask(server_name)
            key = (await self._recalled(server_name)).keys.get(key_id)
        if key is None or not suffices(key):
            raise UnknownKey(f"{server_name} has no valid key {key_id}")
        return key.key

    async def _recalled(self, server_name: str) -> _Known:
        """What is known without asking."""
        while server_name not in self._known:
            await self._flights.run(f"recall {server_name}", lambda: self._recall(server_name))
        return self._known[server_name]

    async def _recall(self, server_name: str) -> None:
        async with self._database.reading() as session:
            keys = await key_store.keys_of(session, server_name)
        known = {
            row.key_id: KnownKey(VerifyKey.from_base64(row.key_id, row.public_key), row.valid_until_ts, row.is_current)
            for row in keys
        }
        self._keep(server_name, _Known(known, 0))

    async def _ask(self, server_name: str) -> None:
        published = await self._fetch(server_name)
        keys = dict((await self._recalled(server_name)).keys)
        if published is not None:
            keys = {key_id: replace(key, is_current=False) for key_id, key in keys.items()} | _keys(published)
        pause_ms = _PAUSE_MS if published is not None else _PAUSE_AFTER_FAILURE_MS
        self._keep(server_name, _Known(keys, self._now_ms() + pause_ms))

    def _keep(self, server_name: str, known: _Known) -> None:
        self._known[server_name] = known
        self._known.move_to_end(server_name)
        while len(self._known) > _MAX_SERVERS:
            self._known.popitem(last=False)

    async def ask(self, server_name: str) -> None:
        """Have the newest keys of ``server_name``, unless it was asked just now."""
        known = await self._recalled(server_name)
        if self._now_ms() >= known.ask_again_ts:
            await self._flights.run(server_name, lambda: self._ask(server_name))

    async def _fetch(self, server_name: str) -> PublishedKeys | None:
        """What ``server_name`` says of its keys now, or a notary of it; written down. None if nobody says anything."""
        async with self._asking:
            found = await self._from_itself(server_name) or await self._from_notaries(server_name)
        if found is None:
            return None
        answer, published = found
        async with self._database.transaction() as session:
            await key_store.keep_answer(
                session, server_name, orjson.dumps(answer).decode(), published, now_ms=self._now_ms()
            )
        return published

    async def _from_itself(self, server_name: str) -> tuple[Any, PublishedKeys] | None:
        try:
            async with asyncio.timeout(_ASKING_MS / 1000):
                answer = await self._calls.client.server_keys(server_name)
            return answer, _checked(answer, server_name, self._now_ms())
        except (Unreachable, BadGateway, InvalidServerKeys, ValueError, TimeoutError):
            return None

    async def _from_notaries(self, server_name: str) -> tuple[Any, PublishedKeys] | None:
        for notary in self._notaries:
            if notary == server_name:
                continue
            criteria: dict[str, Any] = {"server_keys": {server_name: {}}}
            try:
                told = await self._calls.post(notary, _QUERY, criteria, timeout_ms=_ASKING_MS)
                for answer in told["server_keys"]:
                    if answer["server_name"] == server_name:
                        await self._check_notary(notary, answer)
                        return answer, _checked(answer, server_name, self._now_ms())
            except (Unreachable, Refused, InvalidServerKeys, InvalidSignature, UnknownKey, KeyError, TypeError):
                continue
        return None

    async def _check_notary(self, notary: str, answer: Any) -> None:
        """Raises ``InvalidSignature`` or ``UnknownKey`` unless ``notary`` signed ``answer``."""
        key_ids = list(answer["signatures"][notary])
        if not key_ids:
            raise InvalidSignature("the notary did not sign")
        verify_json(answer, notary, await self.request_key(notary, key_ids[0]))


def _checked(answer: Any, server_name: str, now_ms: int) -> PublishedKeys:
    published = check(answer, server_name, now_ms=now_ms)
    if any("\0" in key_id for key_id in (*published.verify_keys, *published.old_verify_keys)):
        raise InvalidServerKeys("a key ID has a NUL")  # which PostgreSQL does not store
    return published


OpenKeyRing = Annotated[KeyRing, opened("key_ring")]


def _keys(published: PublishedKeys) -> dict[str, KnownKey]:
    old = {
        key_id: KnownKey(old.verify_key, old.expired_ts, is_current=False)
        for key_id, old in published.old_verify_keys.items()
    }
    current = {
        key_id: KnownKey(key, published.valid_until_ts, is_current=True)
        for key_id, key in published.verify_keys.items()
    }
    return {**old, **current}
