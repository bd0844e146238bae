"""What users say of themselves (Client-Server API, "Profiles")."""

from typing import Any

from fastapi import APIRouter

from identity_server.homeserver.access.current import CurrentUser
from identity_server.homeserver.federation.calls import OpenFederation
from identity_server.homeserver.profiles.change import REMOVED, change_field
from identity_server.homeserver.profiles.fields import check_key
from identity_server.homeserver.profiles.find import find_profile
from identity_server.homeserver.profiles.spread import OpenSpreading
from identity_server.matrix.errors import Forbidden, MissingParam
from identity_server.runtime.dependencies import Limits, Now, OpenDatabase, OpenTasks, Source
from identity_server.runtime.requests import JsonRoute

router = APIRouter(prefix="/profile", tags=["profiles"], route_class=JsonRoute)


@router.get("/{user_id}")
async def get_profile(
    user_id: str, database: OpenDatabase, calls: OpenFederation, limits: Limits, source: Source
) -> dict[str, Any]:
    await limits.hit("profile_per_source", source)
    return await find_profile(database, calls, user_id)


@router.get("/{user_id}/{field}")
async def get_profile_field(
    user_id: str, field: str, database: OpenDatabase, calls: OpenFederation, limits: Limits, source: Source
) -> dict[str, Any]:
    await limits.hit("profile_per_source", source)
    check_key(field)
    return await find_profile(database, calls, user_id, field)


@router.put("/{user_id}/{field}")
async def put_profile_field(
    user_id: str,
    field: str,
    body: dict[str, Any],
    user: CurrentUser,
    spreading: OpenSpreading,
    tasks: OpenTasks,
    now_ms: Now,
) -> dict[str, Any]:
    _check_own(user_id, user.user_id)
    check_key(field)
    if field not in body:
        raise MissingParam(f"{field} is missing")
    await change_field(spreading, tasks, user_id, field, body[field], now_ms=now_ms)
    return {}


@router.delete("/{user_id}/{field}")
async def delete_profile_field(
    user_id: str, field: str, user: CurrentUser, spreading: OpenSpreading, tasks: OpenTasks, now_ms: Now
) -> dict[str, Any]:
    _check_own(user_id, user.user_id)
    await change_field(spreading, tasks, user_id, field, REMOVED, now_ms=now_ms)
    return {}


def _check_own(user_id: str, requester: str) -> None:
    if user_id != requester:
        raise Forbidden("One changes one's own profile only")
