"""Exchanging an OpenID token for an access token (Identity Service API, "Authentication")."""

from typing import Annotated, Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.access import store
from identity_server.matrix.errors import Forbidden
from identity_server.runtime.dependencies import opened
from identity_server.runtime.tokens import Entropy, token_hash
from identity_server.settings import AccountSettings, FederationSettings

_TOKEN_LENGTH = 43  # 256 bits in base62


class Homeservers(Protocol):
    """Whom an OpenID token is shown to."""

    async def userinfo(self, server_name: str, openid_token: str) -> str:
        """The user ID that ``server_name`` vouches for. Raises ``Unauthorized`` if it vouches for nobody of its own."""


OpenHomeservers = Annotated[Homeservers, opened("homeservers")]


async def prove_user(
    homeservers: Homeservers, server_name: str, openid_token: str, settings: FederationSettings
) -> str:
    """The user ID that holds ``openid_token``. Raises ``Forbidden`` or ``Unauthorized``."""
    if settings.homeserver_allow_list and server_name not in settings.homeserver_allow_list:
        raise Forbidden("Users of this homeserver may not register here")
    return await homeservers.userinfo(server_name, openid_token)


async def issue_token(
    session: AsyncSession, user_id: str, settings: AccountSettings, *, entropy: Entropy, now_ms: int
) -> str:
    """A new access token for ``user_id``."""
    token = entropy.token(_TOKEN_LENGTH)
    expires_ts = now_ms + settings.token_lifetime if settings.token_lifetime else None
    await store.add_token(session, token_hash(token), user_id, now_ms=now_ms, expires_ts=expires_ts)
    return token
