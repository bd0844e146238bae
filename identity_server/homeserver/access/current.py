"""Whose request is this, and from which device (Client-Server API, "Using access tokens")?"""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from identity_server.homeserver.access import store
from identity_server.matrix.errors import MissingToken, UnknownToken
from identity_server.runtime.dependencies import OpenDatabase
from identity_server.runtime.tokens import token_hash


@dataclass(frozen=True)
class Requester:
    user_id: str
    device_id: str


async def authenticate(request: Request, database: OpenDatabase) -> Requester:
    """Raises ``MissingToken`` or ``UnknownToken`` unless the request bears a live access token."""
    token = _token(request)
    if not token:
        raise MissingToken("An access token is required")
    async with database.reading() as session:
        holder = await store.token_holder(session, token_hash(token))
    if holder is None:
        raise UnknownToken("Unrecognised access token", soft_logout=False)
    return Requester(*holder)


def _token(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    # In the versions that we advertise; gone in v1.20.
    return request.query_params.get("access_token")


CurrentUser = Annotated[Requester, Depends(authenticate)]
