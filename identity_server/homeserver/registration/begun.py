"""What was asked for when a registration began: a client may pass the stages by their session alone, and say the last
word again if it did not hear the answer. For a while, and in memory: it holds passwords.
"""

from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from identity_server.runtime.dependencies import opened

_KEPT_MS = 900_000
_MOST = 10_000


@dataclass(frozen=True)
class Begun:
    """``wish``: the fields of the request that were given, until an account has come of it: that of ``user_id``."""

    until_ts: int
    wish: dict[str, Any] = field(repr=False)
    user_id: str | None = None


class BegunRegistrations:
    """By their session of User-Interactive Authentication."""

    def __init__(self) -> None:
        self._begun: dict[str, Begun] = {}

    def remember(self, session_id: str, wish: dict[str, Any], *, now_ms: int) -> None:
        if session_id not in self._begun:
            self._begun[session_id] = Begun(now_ms + _KEPT_MS, wish)
        if len(self._begun) > _MOST:
            del self._begun[next(iter(self._begun))]

    def find(self, session_id: str, *, now_ms: int) -> Begun | None:
        begun = self._begun.get(session_id)
        return begun if begun and begun.until_ts > now_ms else None

    def finish(self, session_id: str, user_id: str) -> None:
        if session_id in self._begun:
            self._begun[session_id] = replace(self._begun[session_id], wish={}, user_id=user_id)


OpenBegun = Annotated[BegunRegistrations, opened("begun_registrations")]
