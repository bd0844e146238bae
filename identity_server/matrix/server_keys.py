"""The keys that servers publish (Server-Server API, "Retrieving server keys")."""

import contextlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from identity_server.matrix.canonical_json import LARGEST_INTEGER
from identity_server.matrix.errors import BadGateway
from identity_server.matrix.http import Unreachable
from identity_server.matrix.signing import (
    ALGORITHM,
    InvalidSignature,
    SigningKey,
    VerifyKey,
    sign_json,
    verify_json,
)
from identity_server.matrix.single_flight import SingleFlight

PATH = "/_matrix/key/v2/server"

_OUR_LIFETIME_MS = 24 * 3_600_000
# "Servers MUST use the lesser of this field and 7 days into the future."
_LONGEST_LIFETIME_MS = 7 * 86_400_000
_PAUSE_MS = 30_000
_MAX_SERVERS = 2_000
_MAX_KEYS = 50


class InvalidServerKeys(Exception):
    """What a server answered does not prove which keys are its own."""


class UnknownKey(Exception):
    """A server has no such key at that time, or could not be asked."""


@dataclass(frozen=True)
class OldVerifyKey:
    """A key that signs no more."""

    verify_key: VerifyKey
    expired_ts: int


@dataclass(frozen=True)
class PublishedKeys:
    """What a server says of its keys, checked. Both maps are by key ID."""

    server_name: str
    verify_keys: Mapping[str, VerifyKey]
    old_verify_keys: Mapping[str, OldVerifyKey]
    valid_until_ts: int
    """No later than seven days after the keys were fetched."""

    def request_key(self, key_id: str, *, now_ms: int) -> VerifyKey:
        """The key that signs requests now. Raises ``UnknownKey``."""
        if key_id not in self.verify_keys or now_ms > self.valid_until_ts:
            raise UnknownKey(f"{self.server_name} has no valid key {key_id}")
        return self.verify_keys[key_id]

    def event_key(self, key_id: str, *, origin_server_ts: int) -> VerifyKey:
        """The key that signed events at ``origin_server_ts`` (from room version 5 on). Raises ``UnknownKey``."""
        old = self.old_verify_keys.get(key_id)
        if old is not None and origin_server_ts <= old.expired_ts:
            return old.verify_key
        return self.request_key(key_id, now_ms=origin_server_ts)


def publish(
    server_name: str,
    keys: Iterable[SigningKey],
    old_keys: Iterable[OldVerifyKey] = (),
    *,
    now_ms: int,
) -> dict[str, Any]:
    """Our own answer, good for a day, signed with every one of ``keys``."""
    current = list(keys)
    answer: dict[str, Any] = {
        "server_name": server_name,
        "verify_keys": {key.key_id: {"key": key.verify_key.base64} for key in current},
        "old_verify_keys": {
            old.verify_key.key_id: {"key": old.verify_key.base64, "expired_ts": old.expired_ts} for old in old_keys
        },
        "valid_until_ts": now_ms + _OUR_LIFETIME_MS,
    }
    for key in current:
        answer = sign_json(answer, server_name, key)
    return answer


def check(answer: Any, server_name: str, *, now_ms: int) -> PublishedKeys:
    """What ``server_name`` answered just now. Raises ``InvalidServerKeys``.

    It must be signed with at least one of the keys that it lists, and by none of them wrongly; keys of other
    algorithms are passed over.
    """
    try:
        if answer["server_name"] != server_name:
            raise InvalidServerKeys("the keys are another server's")
        verify_keys = _keys(answer["verify_keys"])
        old = answer.get("old_verify_keys", {})
        old_verify_keys = {
            key_id: OldVerifyKey(key, _timestamp(old[key_id]["expired_ts"])) for key_id, key in _keys(old).items()
        }
        if len(verify_keys) + len(old_verify_keys) > _MAX_KEYS:
            raise InvalidServerKeys("the server has more keys than are worth keeping")
        # All of them must be readable: a notary adds its own to the answer.
        signed_by = {signer: by_key.keys() for signer, by_key in answer["signatures"].items()}
        signed_with = signed_by[server_name] & verify_keys.keys()
        valid_until_ts = _timestamp(answer["valid_until_ts"])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise InvalidServerKeys("the keys cannot be read") from error
    if not signed_with:
        raise InvalidServerKeys("the answer is signed with none of its keys")
    for key_id in signed_with:
        try:
            verify_json(answer, server_name, verify_keys[key_id])
        except InvalidSignature as error:
            raise InvalidServerKeys(str(error)) from error
    return PublishedKeys(server_name, verify_keys, old_verify_keys, min(valid_until_ts, now_ms + _LONGEST_LIFETIME_MS))


class KeySource(Protocol):
    async def server_keys(self, server_name: str) -> Any:
        """The JSON that ``server_name`` serves. Raises ``Unreachable``, ``BadGateway`` or ``ValueError``."""


@dataclass
class _Known:
    keys: PublishedKeys | None
    asked_ts: int


class RemoteKeys:
    """Other servers' keys, fetched when first needed, kept while they are valid.

    A server is asked at most once in 30 seconds, whatever it answers and whichever key is sought; keys that
    are still valid outlive a failure to fetch them anew.
    """

    def __init__(self, source: KeySource) -> None:
        self._source = source
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._flights: SingleFlight[str, None] = SingleFlight()

    async def verify_key(self, server_name: str, key_id: str, *, now_ms: int) -> VerifyKey:
        """The key with which ``server_name`` signs requests now. Raises ``UnknownKey``."""
        return (await self.published(server_name, key_id, now_ms=now_ms)).request_key(key_id, now_ms=now_ms)

    async def published(self, server_name: str, key_id: str, *, now_ms: int) -> PublishedKeys:
        """All keys of ``server_name``; fresher ones if ``key_id`` is not among those known. Raises ``UnknownKey``."""
        known = self._known.get(server_name)
        if known is None or (not _suffices(known.keys, key_id, now_ms) and now_ms >= known.asked_ts + _PAUSE_MS):
            await self._flights.run(server_name, lambda: self._fetch(server_name, now_ms))
            known = self._known.get(server_name)
        if known is None or known.keys is None:
            raise UnknownKey(f"the keys of {server_name} could not be had")
        self._known.move_to_end(server_name)
        return known.keys

    async def _fetch(self, server_name: str, now_ms: int) -> None:
        before = self._known.get(server_name)
        keys = before.keys if before else None
        with contextlib.suppress(Unreachable, BadGateway, InvalidServerKeys, ValueError):
            keys = check(await self._source.server_keys(server_name), server_name, now_ms=now_ms)
        self._known[server_name] = _Known(keys, now_ms)
        while len(self._known) > _MAX_SERVERS:
            self._known.popitem(last=False)


def _suffices(keys: PublishedKeys | None, key_id: str, now_ms: int) -> bool:
    if keys is None or now_ms > keys.valid_until_ts:
        return False
    return key_id in keys.verify_keys or key_id in keys.old_verify_keys


def _keys(listed: Mapping[str, Any]) -> dict[str, VerifyKey]:
    return {
        key_id: VerifyKey.from_base64(key_id, entry["key"])
        for key_id, entry in listed.items()
        if key_id.startswith(f"{ALGORITHM}:")
    }


def _timestamp(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= LARGEST_INTEGER:
        raise ValueError("not a timestamp")
    return value
