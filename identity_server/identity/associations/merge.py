"""Which of two statements about one address wins: pure, so that every server comes to the same answer."""

from typing import NamedTuple


class Precedence(NamedTuple):
    """Statements compare by this, the greatest wins: the newest; then by origin and the origin's own order."""

    ts: int
    origin: str
    origin_id: int


def next_ts(now_ms: int, current: Precedence | None) -> int:
    """The time of a statement made now, which must win over ``current`` even if that comes from a faster clock."""
    return now_ms if current is None else max(now_ms, current.ts + 1)
