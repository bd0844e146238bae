"""Asking other servers for their users' keys, all at once, and noting who did not answer."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from identity_server.homeserver.encryption import store
from identity_server.homeserver.encryption.device_lists.remote import is_device_id, read_device_keys, read_signing_key
from identity_server.homeserver.encryption.device_lists.resync import DeviceListResync
from identity_server.homeserver.encryption.key_json import stored, well_signed
from identity_server.homeserver.encryption.one_time_keys.claim import Claimed
from identity_server.homeserver.encryption.one_time_keys.store import Wanted
from identity_server.homeserver.encryption.query import Answer, Asked, query_kept, with_signatures_of
from identity_server.homeserver.federation.calls import FederationCalls, federation_path
from identity_server.matrix.errors import MatrixError
from identity_server.matrix.http import Unreachable
from identity_server.matrix.identifiers import domain_of
from identity_server.matrix.json_api import Refused
from identity_server.runtime.database import Database

_T = TypeVar("_T")

Failures = dict[str, dict[str, Any]]
"""By the name of the server that did not answer."""


@dataclass(frozen=True)
class RemoteKeysOfUsers:
    """Keys of users elsewhere; ``timeout_ms`` bounds each question."""

    database: Database
    federation: FederationCalls
    server_name: str
    timeout_ms: int

    async def query(self, asked: Asked, answer: Answer, *, viewer: str) -> Failures:
        """Add the keys of these users: those that we keep, and of others what their servers say now."""
        resync = DeviceListResync(self.database, self.federation, self.server_name)
        kept = await resync.usable(asked.keys(), timeout_ms=self.timeout_ms)
        async with self.database.reading() as session:
            await query_kept(session, {user_id: asked[user_id] for user_id in kept}, answer, viewer=viewer)
        others = {user_id: devices for user_id, devices in asked.items() if user_id not in kept}
        failures = await self._of_each_server(others, lambda server, users: self._query(server, users, answer))
        async with self.database.reading() as session:
            await with_signatures_of(session, answer, others, viewer=viewer)
        return failures

    async def claim(self, wanted: Collection[Wanted], claimed: Claimed) -> Failures:
        """Add keys that these devices' servers give out."""
        by_user: dict[str, dict[str, str]] = defaultdict(dict)
        for each in wanted:
            by_user[each.user_id][each.device_id] = each.algorithm
        return await self._of_each_server(by_user, lambda server, users: self._claim(server, users, claimed))

    async def _of_each_server(
        self, by_user: Mapping[str, _T], ask: Callable[[str, dict[str, _T]], Awaitable[None]]
    ) -> Failures:
        by_server: dict[str, dict[str, _T]] = defaultdict(dict)
        for user_id, what in by_user.items():
            by_server[domain_of(user_id)][user_id] = what
        failures: Failures = {}

        async def ask_one(server: str, users: dict[str, _T]) -> None:
            try:
                await ask(server, users)
            except Refused as error:
                failures[server] = {"status": error.status, "message": error.message}
            except Unreachable:
                failures[server] = {"status": 503, "message": "The server could not be reached"}

        await asyncio.gather(*(ask_one(server, users) for server, users in by_server.items()))
        return failures

    async def _query(self, server: str, users: Mapping[str, Collection[str]], answer: Answer) -> None:
        content = {"device_keys": {user_id: sorted(devices) for user_id, devices in users.items()}}
        path = federation_path("user", "keys", "query")
        told = await self.federation.post(server, path, content, timeout_ms=self.timeout_ms)
        for user_id in users:
            devices = _object(_object(told.get("device_keys")).get(user_id))
            answer.device_keys[user_id] = {
                device_id: keys
                for device_id, keys in devices.items()
                if is_device_id(device_id) and read_device_keys(user_id, device_id, keys) is not None
            }
            for usage in (store.MASTER, store.SELF_SIGNING):
                key = _object(_object(told.get(f"{usage}_keys")).get(user_id))
                if read_signing_key(user_id, key) is not None:
                    answer.of_usage(usage)[user_id] = key

    async def _claim(self, server: str, users: Mapping[str, Mapping[str, str]], claimed: Claimed) -> None:
        path = federation_path("user", "keys", "claim")
        told = await self.federation.post(server, path, {"one_time_keys": users}, timeout_ms=self.timeout_ms)
        for user_id, devices in users.items():
            given = _object(_object(told.get("one_time_keys")).get(user_id))
            for device_id in devices:
                keys = {name: key for name, key in _object(given.get(device_id)).items() if _is_key(key)}
                if keys:
                    claimed.setdefault(user_id, {})[device_id] = keys


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_key(key: Any) -> bool:
    if not isinstance(key, (str, dict)) or (isinstance(key, dict) and not well_signed(key)):
        return False
    try:
        return bool(stored(key))
    except MatrixError:
        return False
