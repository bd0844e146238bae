"""Which of two copies of a room key is kept (Client-Server API, "Server-side key backups")."""

from typing import NamedTuple


class Standing(NamedTuple):
    """What is said of a copy."""

    is_verified: bool
    first_message_index: int
    forwarded_count: int


def replaces(new: Standing, kept: Standing) -> bool:
    """Whether ``new`` takes the place of ``kept``: one that is verified, then one that decrypts from an earlier
    message on, then one that has been forwarded less often. Of equals the kept one stays."""
    return _rank(new) < _rank(kept)


def _rank(standing: Standing) -> tuple[bool, int, int]:
    return (not standing.is_verified, standing.first_message_index, standing.forwarded_count)
