"""What users say of themselves (Client-Server API, "Profiles")."""

from typing import Any

from fastapi import APIRouter

from identity_server.homeserver.access.current import CurrentUser
from identity_server.homeserver.profiles import store
from identity_server.homeserver.profiles.fields import check_key, set_field
from identity_server.matrix.errors import Forbidden, MissingParam, NotFound
from identity_server.runtime.dependencies import Reading, Transaction
from identity_server.runtime.requests import JsonRoute

router = APIRouter(prefix="/profile", tags=["profiles"], route_class=JsonRoute)


@router.get("/{user_id}")
async def get_profile(user_id: str, session: Reading) -> dict[str, Any]:
    profile = await store.profile_of(session, user_id)
    if not profile:
        raise NotFound("Profile not found")
    return profile


@router.get("/{user_id}/{field}")
async def get_profile_field(user_id: str, field: str, session: Reading) -> dict[str, Any]:
    profile = await store.profile_of(session, user_id)
    if field not in profile:
        raise NotFound("Profile field not found")
    return {field: profile[field]}


@router.put("/{user_id}/{field}")
async def put_profile_field(
    user_id: str, field: str, body: dict[str, Any], user: CurrentUser, session: Transaction
) -> dict[str, Any]:
    _check_own(user_id, user.user_id)
    check_key(field)
    if field not in body:
        raise MissingParam(f"{field} is missing")
    await set_field(session, user_id, field, body[field])
    return {}


@router.delete("/{user_id}/{field}")
async def delete_profile_field(user_id: str, field: str, user: CurrentUser, session: Transaction) -> dict[str, Any]:
    _check_own(user_id, user.user_id)
    check_key(field)
    await store.remove_field(session, user_id, field)
    return {}


def _check_own(user_id: str, requester: str) -> None:
    if user_id != requester:
        raise Forbidden("One changes one's own profile only")
