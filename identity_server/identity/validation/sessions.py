"""The validation session as a state machine: pure, no storage, no clock (Identity Service API, "Establishing
associations").

    begun ──right token──▶ validated
      │                        │
      ├──too many wrong tokens─┼──▶ dead
      └──24 h without change───┴──▶ expired

What has been proven is not proven longer by another message: else whoever once had an address could use the session
for ever.
"""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from identity_server.matrix.errors import SessionExpired, SessionNotValidated
from identity_server.matrix.threepid import Threepid
from identity_server.settings import ValidationSettings

Verdict = Literal["right", "wrong"]


@dataclass(frozen=True)
class Session:
    """``modified_ts``: when it was begun, was sent a token that might validate it, or was validated; its lifetime
    counts from there."""

    sid: str
    threepid: Threepid
    spelling: str | None
    client_secret: str
    send_attempt: int
    next_link: str | None
    modified_ts: int
    validated_ts: int | None = None
    wrong_tokens: int = 0

    def expired(self, settings: ValidationSettings, now_ms: int) -> bool:
        return now_ms >= self.modified_ts + settings.session_lifetime

    def dead(self, settings: ValidationSettings) -> bool:
        """Guessing is over: even the right token comes too late."""
        return self.validated_ts is None and self.wrong_tokens >= settings.max_wrong_tokens

    def ended(self, settings: ValidationSettings, now_ms: int) -> bool:
        return self.expired(settings, now_ms) or self.dead(settings)

    def sent_again(self, send_attempt: int, next_link: str | None, now_ms: int) -> "Session":
        """After a message was asked for with a higher ``send_attempt``; guessed tokens stay counted."""
        modified_ts = now_ms if self.validated_ts is None else self.modified_ts
        return replace(self, send_attempt=send_attempt, next_link=next_link, modified_ts=modified_ts)

    def not_sent(self, claimed: "Session", before: "Session") -> "Session":
        """After the message could not be sent for which the session had gone from ``before`` to ``claimed``.

        What has happened to it meanwhile stands: a later attempt, a validation, guessed tokens.
        """
        if self.send_attempt != claimed.send_attempt:
            return self
        modified_ts = before.modified_ts if self.validated_ts is None else self.modified_ts
        return replace(self, send_attempt=before.send_attempt, next_link=before.next_link, modified_ts=modified_ts)

    def submit(
        self, token_hash: bytes, sent: Iterable[bytes], settings: ValidationSettings, now_ms: int
    ) -> tuple["Session", Verdict]:
        """The session after a token was submitted, and whether it was one of those ``sent``.

        Raises ``SessionExpired`` if it is too late for any.
        """
        if self.ended(settings, now_ms):
            raise SessionExpired("This validation session has expired: please begin a new one")
        # Hashes, compared in constant time: how long it takes tells nothing about the token.
        if any(hmac.compare_digest(token_hash, candidate) for candidate in sent):
            if self.validated_ts is not None:
                return self, "right"
            return replace(self, validated_ts=now_ms, modified_ts=now_ms), "right"
        return replace(self, wrong_tokens=self.wrong_tokens + 1), "wrong"

    def proven_at(self, settings: ValidationSettings, now_ms: int) -> int:
        """When the address was proven (ms). Raises ``SessionExpired`` or ``SessionNotValidated``."""
        if self.expired(settings, now_ms):
            raise SessionExpired("This validation session has expired: please begin a new one")
        if self.validated_ts is None:
            raise SessionNotValidated("This validation session has not yet been completed")
        return self.validated_ts
