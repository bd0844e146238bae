"""What users of ours say of themselves, for other servers (Server-Server API, "Querying for information")."""

from typing import Any

from fastapi import APIRouter

from identity_server.homeserver.accounts import store as accounts
from identity_server.homeserver.federation.requester import Origin
from identity_server.homeserver.profiles import store
from identity_server.matrix.errors import InvalidParam, NotFound
from identity_server.matrix.identifiers import UserID, domain_of
from identity_server.runtime.dependencies import OpenSettings, Reading

router = APIRouter(prefix="/_matrix/federation/v1/query", tags=["profiles"])


@router.get("/profile")
async def query_profile(
    _origin: Origin, user_id: UserID, session: Reading, settings: OpenSettings, field: str | None = None
) -> dict[str, Any]:
    if domain_of(user_id) != settings.homeserver.name:
        raise InvalidParam("The user is not a user of this homeserver")
    profile = await store.profile_of(session, user_id)
    if not profile and not await accounts.is_active(session, user_id):
        raise NotFound("There is no such user")
    return {name: value for name, value in profile.items() if field in (None, name)}
