"""Tokens by which a device that is logged in lets another in (Client-Server API, "Token-based").

They live for two minutes and in memory: who restarts the server meanwhile asks for another.
"""

from dataclasses import dataclass
from typing import Annotated

from identity_server.runtime.dependencies import opened
from identity_server.runtime.tokens import Entropy, token_hash

LIFETIME_MS = 120_000
_LENGTH = 43
_MOST = 10_000


@dataclass(frozen=True)
class Ticket:
    """``password_hash``: the account's when the token was made; with another password the token is worth nothing."""

    user_id: str
    password_hash: str
    expires_ts: int


class LoginTokens:
    def __init__(self) -> None:
        self._tickets: dict[bytes, Ticket] = {}

    def issue(self, user_id: str, password_hash: str, *, entropy: Entropy, now_ms: int) -> str:
        token = entropy.token(_LENGTH)
        self._tickets[token_hash(token)] = Ticket(user_id, password_hash, now_ms + LIFETIME_MS)
        if len(self._tickets) > _MOST:
            del self._tickets[next(iter(self._tickets))]
        return token

    def take(self, token: str, *, now_ms: int) -> Ticket | None:
        """What the token was made for, once: None if it is unknown, used, or too old."""
        ticket = self._tickets.pop(token_hash(token), None)
        return ticket if ticket and ticket.expires_ts > now_ms else None


OpenLoginTokens = Annotated[LoginTokens, opened("login_tokens")]
