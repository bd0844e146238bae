"""The noun of it all: a statement that an address belongs to a user, or (a tombstone) to nobody any more.

Its wire form is signed JSON with the keys of POST /3pid/bind's answer (Identity Service API); in a tombstone
``mxid``, ``not_before`` and ``not_after`` are null.
"""

import hashlib
import hmac
from dataclasses import dataclass
from typing import Any

from identity_server.identity.associations.merkle import commitment
from identity_server.matrix.canonical_json import canonical_json
from identity_server.matrix.threepid import Threepid

# What one association is good for: for ever, as far as anybody is concerned.
LIFETIME_MS = 100 * 365 * 86_400_000


@dataclass(frozen=True)
class Statement:
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
    """16 bytes that nobody can foretell who has not been told: what keeps a commitment from being guessed open."""
    return hmac.digest(secret, position.to_bytes(8), hashlib.sha256)[:16]


def log_entry(origin: str, position: int, statement: Statement, nonce: bytes) -> bytes:
    """The entry of ``origin``'s Merkle tree at ``position`` (counted from 1)."""
    said = {**statement.as_json(), "origin": origin, "position": position}
    return commitment(nonce, canonical_json(said))
