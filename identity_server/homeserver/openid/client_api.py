"""Asking for a token that proves to another service who one is (Client-Server API, "OpenID")."""

from typing import Any

from fastapi import APIRouter

from identity_server.homeserver.access.current import CurrentUser
from identity_server.homeserver.openid.issue import issue_openid_token
from identity_server.matrix.errors import Forbidden
from identity_server.runtime.dependencies import Now, OpenSettings, Random, Transaction

router = APIRouter(tags=["openid"])


@router.post("/user/{user_id}/openid/request_token")
async def request_token(
    user_id: str, user: CurrentUser, session: Transaction, settings: OpenSettings, entropy: Random, now_ms: Now
) -> dict[str, Any]:
    if user_id != user.user_id:
        raise Forbidden("An OpenID token can be had for oneself only")
    return await issue_openid_token(
        session, user_id, server_name=settings.homeserver.name, entropy=entropy, now_ms=now_ms
    )
