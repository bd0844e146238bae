"""Which of the statements about one address wins: pure, so that every server comes to the same answer."""

from collections.abc import Iterable
from typing import NamedTuple

from identity_server.matrix.threepid import Threepid


class Precedence(NamedTuple):
    """Statements compare by this, the greatest wins: the newest; then by origin and the origin's own order."""

    ts: int
    origin: str
    origin_id: int


class Claim(NamedTuple):
    """What a statement says of an address."""

    threepid: Threepid
    precedence: Precedence
    user_id: str | None


def greatest(claims: Iterable[Claim]) -> dict[Threepid, Claim]:
    """Of each address the claim that wins."""
    best: dict[Threepid, Claim] = {}
    for claim in claims:
        rival = best.get(claim.threepid)
        if rival is None or claim.precedence > rival.precedence:
            best[claim.threepid] = claim
    return best


def next_ts(now_ms: int, current: Precedence | None) -> int:
    """The time of a statement made now, which must win over ``current`` even if that comes from a faster clock."""
    return now_ms if current is None else max(now_ms, current.ts + 1)
