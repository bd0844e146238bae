"""Whose request is this, and from which device (Client-Server API, "Using access tokens")?"""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from identity_server.homeserver.access import store
from identity_server.homeserver.access.last_seen import OpenLastSeen
from identity_server.matrix.errors import MissingToken, UnknownToken
from identity_server.runtime.database import Database
from identity_server.runtime.dependencies import Now, OpenDatabase, Source
from identity_server.runtime.tokens import token_hash


@dataclass(frozen=True)
class Requester:
    user_id: str
    device_id: str


async def authenticate(
    request: Request, database: OpenDatabase, last_seen: OpenLastSeen, source: Source, now_ms: Now
) -> Requester:
    """Raises ``MissingToken`` or ``UnknownToken`` unless the request bears a live access token."""
    token = bearer_token(request)
    if not token:
        raise MissingToken("An access token is required")
    requester = await holder_of(database, token, now_ms=now_ms)
    last_seen.note(requester.user_id, requester.device_id, source, now_ms=now_ms)
    return requester


async def authenticate_if_asked(
    request: Request, database: OpenDatabase, last_seen: OpenLastSeen, source: Source, now_ms: Now
) -> Requester | None:
    """None for a request without a token. Raises ``UnknownToken``."""
    if not bearer_token(request):
        return None
    return await authenticate(request, database, last_seen, source, now_ms)


async def holder_of(database: Database, token: str, *, now_ms: int) -> Requester:
    """Raises ``UnknownToken``, with ``soft_logout`` if the token was good once."""
    hashed = token_hash(token)
    holder = await store.token_holder(database.fast, hashed)
    if holder is None:
        raise UnknownToken("Unrecognised access token", soft_logout=False)
    if holder.expires_ts is not None and holder.expires_ts <= now_ms:
        raise UnknownToken("The access token has expired", soft_logout=True)
    if holder.unused:
        # "The old refresh token remains valid until the new access token or refresh token is used."
        async with database.transaction() as session:
            await store.first_use(session, hashed)
    return Requester(holder.user_id, holder.device_id)


def bearer_token(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    # In the versions that we advertise; gone in v1.20.
    return request.query_params.get("access_token")


CurrentUser = Annotated[Requester, Depends(authenticate)]
PerhapsUser = Annotated[Requester | None, Depends(authenticate_if_asked)]
