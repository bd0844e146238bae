"""Claiming an attempt to send a token (the ``send_attempt`` of requestToken): who may send, and for which session.

One that was claimed before is not claimed again, so no message is sent twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.validation import store
from identity_server.identity.validation.sessions import Session
from identity_server.matrix.threepid import Threepid
from identity_server.runtime.clock import Clock
from identity_server.runtime.dependencies import opened
from identity_server.runtime.together import Together
from identity_server.runtime.tokens import Entropy, token_hash
from identity_server.settings import ValidationSettings

_SID_LENGTH = 24


@dataclass(frozen=True)
class TokenRequest:
    """What a client asks for. ``token`` is the fresh secret that would be sent, ``spelling`` as in the session."""

    threepid: Threepid
    spelling: str | None
    client_secret: str
    send_attempt: int
    next_link: str | None
    token: str

    @property
    def named(self) -> tuple[Threepid, str]:
        """What a session that is not over is known by."""
        return self.threepid, self.client_secret


class Claimed(NamedTuple):
    """The session with the attempt claimed, and as it was before: the same, if nothing is to be sent."""

    session: Session
    before: Session

    @property
    def is_to_be_sent(self) -> bool:
        return self.session.send_attempt != self.before.send_attempt


OpenClaim = Annotated[Together[TokenRequest, Claimed], opened("claim_attempt")]


async def claim_attempt(
    session: AsyncSession,
    requests: Sequence[TokenRequest],
    *,
    settings: ValidationSettings,
    entropy: Entropy,
    clock: Clock,
) -> list[Claimed]:
    """Claim each request's attempt, and let its token count. Those that begin a session, as most do, begin together."""
    now_ms = clock.now_ms()
    wanted = {request.named: request for request in reversed(requests)}
    known = await store.live_names(session, list(wanted))
    fresh = {named: _begun(request, entropy, now_ms) for named, request in wanted.items() if named not in known}
    added = await store.add_sessions(session, [fresh[named] for named in sorted(fresh)])
    begun = {named: new for named, new in fresh.items() if new.sid in added}
    claimed: dict[TokenRequest, Claimed] = {}
    # In one order: so workers that share the database do not come to wait for each other's rows.
    for request in sorted(requests, key=lambda each: each.named):
        if (new := begun.pop(request.named, None)) is not None:
            claimed[request] = _first(new)
        else:
            claimed[request] = await _claim(session, request, settings, entropy=entropy, now_ms=now_ms)
    sent = [(each.session.sid, token_hash(request.token)) for request, each in claimed.items() if each.is_to_be_sent]
    await store.add_tokens(session, sent)
    return [claimed[request] for request in requests]


async def _claim(
    session: AsyncSession, request: TokenRequest, settings: ValidationSettings, *, entropy: Entropy, now_ms: int
) -> Claimed:
    live = await store.live_session(session, *request.named)
    if live and live.ended(settings, now_ms):
        await store.supersede(session, live.sid)
        live = None
    if live is None:
        begun = _begun(request, entropy, now_ms)
        if await store.add_sessions(session, [begun]):
            return _first(begun)
        live = await store.live_session(session, *request.named)
        assert live is not None, "the session that was in the way has been committed"
    if request.send_attempt <= live.send_attempt:
        return Claimed(live, before=live)
    again = live.sent_again(request.send_attempt, request.next_link, now_ms)
    await store.save_session(session, again)
    return Claimed(again, before=live)


async def give_back(session: AsyncSession, claimed: Claimed, token: str) -> None:
    """Let the same attempt be claimed again, whose message could not be sent."""
    now = await store.find_session(session, claimed.session.sid, claimed.session.client_secret, for_update=True)
    if now is not None:
        await store.remove_token(session, now.sid, token_hash(token))
        await store.save_session(session, now.not_sent(*claimed))


def _first(begun: Session) -> Claimed:
    return Claimed(begun, before=replace(begun, send_attempt=begun.send_attempt - 1))


def _begun(request: TokenRequest, entropy: Entropy, now_ms: int) -> Session:
    return Session(
        sid=entropy.token(_SID_LENGTH),
        threepid=request.threepid,
        spelling=request.spelling,
        client_secret=request.client_secret,
        send_attempt=request.send_attempt,
        next_link=request.next_link,
        modified_ts=now_ms,
    )
