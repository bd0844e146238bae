"""The noun of it all: a statement that an address belongs to a user, or (a tombstone) to nobody any more.

Its wire form is signed JSON with the keys of POST /3pid/bind's answer (Identity Service API); in a tombstone
``mxid``, ``not_before`` and ``not_after`` are null.
"""

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from identity_server.identity.associations.merkle import Node, Peaks, commitment
from identity_server.matrix.threepid import Threepid

PlainBinding = tuple[str, str, str, str | None]
"""A binding where millions pass: medium, address, user ID, and the spelling where that differs from the address."""

# What one association is good for: for ever, as far as anybody is concerned.
LIFETIME_MS = 100 * 365 * 86_400_000
_BLOCK = 64


class Statement(NamedTuple):
    """All times in ms since the epoch."""

    threepid: Threepid
    user_id: str | None
    ts: int
    not_before: int | None
    not_after: int | None

    @classmethod
    def binding(cls, threepid: Threepid, user_id: str, ts: int) -> "Statement":
        return cls(threepid, user_id, ts, not_before=ts, not_after=ts + LIFETIME_MS)

    @classmethod
    def tombstone(cls, threepid: Threepid, ts: int) -> "Statement":
        return cls(threepid, None, ts, not_before=None, not_after=None)

    def as_json(self) -> dict[str, Any]:
        return {
            "medium": self.threepid.medium,
            "address": self.threepid.address,
            "mxid": self.user_id,
            "ts": self.ts,
            "not_before": self.not_before,
            "not_after": self.not_after,
        }


def entry_nonce(secret: bytes, position: int) -> bytes:
    """16 bytes that nobody can foretell who has not been told: what keeps a commitment from being guessed open.

    The first half of HMAC-SHA-256 over ``position``. Whole logs pass here: 0.7 µs; by ``hmac.digest``, 1.8.
    """
    begun = _keyed(secret)
    inner, outer = begun[0].copy(), begun[1].copy()
    inner.update(position.to_bytes(8))
    outer.update(inner.digest())
    return outer.digest()[:16]


@lru_cache(maxsize=4)
def _keyed(secret: bytes) -> tuple["hashlib._Hash", "hashlib._Hash"]:
    """HMAC's two hashes, which have taken the key in (RFC 2104; it is no longer than a block)."""
    assert len(secret) <= _BLOCK
    key = secret.ljust(_BLOCK, b"\0")
    return hashlib.sha256(bytes(byte ^ 0x36 for byte in key)), hashlib.sha256(bytes(byte ^ 0x5C for byte in key))


def log_entry(origin: str, position: int, statement: Statement, nonce: bytes) -> bytes:
    """The entry of ``origin``'s Merkle tree at ``position`` (counted from 1).

    Whole logs pass here. The keys stand in their order and the integers are within bounds, so this is canonical JSON
    (3 µs; with the checks that other JSON needs, 9).
    """
    said = {
        "address": statement.threepid.address,
        "medium": statement.threepid.medium,
        "mxid": statement.user_id,
        "not_after": statement.not_after,
        "not_before": statement.not_before,
        "origin": origin,
        "position": position,
        "ts": statement.ts,
    }
    return commitment(nonce, orjson.dumps(said))


def grown(tree: Peaks, secret: bytes, origin: str, statements: Iterable[Statement]) -> tuple[Peaks, list[Node]]:
    """``tree``, which is the log's of ``origin``, with ``statements`` at its end; and the subtrees that they completed.
    ``secret``: what the log's nonces are derived from."""
    return tree.extended(
        log_entry(origin, position, statement, entry_nonce(secret, position))
        for position, statement in enumerate(statements, start=tree.size + 1)
    )
