"""Whose request is this?"""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from identity_server.identity.access import store
from identity_server.matrix.errors import Unauthorized
from identity_server.runtime.dependencies import OpenResources
from identity_server.runtime.tokens import token_hash


@dataclass(frozen=True)
class Account:
    user_id: str
    token_hash: bytes


def bearer_token(request: Request) -> str | None:
    """The token in the Authorization header, if there is one of that scheme."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


async def authenticate(request: Request, resources: OpenResources) -> Account:
    """Raises ``Unauthorized`` unless the request bears a live access token."""
    token = bearer_token(request)
    if token is None and _may_stand_in_query(request, resources.settings.compatibility.query_token):
        token = request.query_params.get("access_token")
    if not token:
        raise Unauthorized("An access token is required")
    hashed = token_hash(token)
    user_id = await store.token_holder(resources.database.fast, hashed, now_ms=resources.clock.now_ms())
    if user_id is None:
        raise Unauthorized("Unrecognised access token")
    return Account(user_id, hashed)


def _may_stand_in_query(request: Request, where: str) -> bool:
    # Dropped from the specification in v1.20, still sent by homeservers.
    return where == "all" or (where == "hash_details_only" and request.url.path.endswith("/hash_details"))


# Holds a valid token, terms accepted or not; most endpoints ask for ``terms.signed.SignedAccount`` instead.
AnyAccount = Annotated[Account, Depends(authenticate)]
