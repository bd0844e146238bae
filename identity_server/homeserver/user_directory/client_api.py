"""Finding users (Client-Server API, "User Directory")."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field

from identity_server.homeserver.access.current import CurrentUser
from identity_server.homeserver.timeline.store import joined_rooms
from identity_server.homeserver.user_directory.search import search
from identity_server.matrix.errors import InvalidParam
from identity_server.matrix.identifiers import RoomID, Text, check_user_id
from identity_server.runtime.dependencies import Limits, OpenSettings, Reading
from identity_server.runtime.requests import Body, JsonRoute

router = APIRouter(prefix="/user_directory", tags=["user directory"], route_class=JsonRoute)

_MOST = 50


mutual_router = APIRouter(prefix="/_matrix/client/v1", tags=["user directory"])

_PER_PAGE = 500


class Search(Body):
    search_term: Annotated[Text, Field(max_length=1000)]
    limit: Annotated[int, Field(ge=0)] = 10


@router.post("/search")
async def search_users(
    body: Search, user: CurrentUser, session: Reading, settings: OpenSettings, limits: Limits
) -> dict[str, Any]:
    await limits.hit("user_directory_per_user", user.user_id)
    found, is_limited = await search(
        session, user.user_id, body.search_term, min(body.limit, _MOST), server_name=settings.homeserver.name
    )
    return {"results": [one.described for one in found], "limited": is_limited}


@mutual_router.get("/mutual_rooms")
async def get_mutual_rooms(
    user_id: str,
    user: CurrentUser,
    session: Reading,
    since: Annotated[RoomID | None, Query(alias="from")] = None,
) -> dict[str, Any]:
    """Client-Server API, "Mutual Rooms"; the token of a page is the last room ID before it."""
    try:
        check_user_id(user_id)
    except ValueError as error:
        raise InvalidParam("user_id is no user ID") from error
    if user_id == user.user_id:
        raise InvalidParam("All of one's rooms are shared with oneself")
    mutual = sorted(await joined_rooms(session, user.user_id) & await joined_rooms(session, user_id))
    page = [room_id for room_id in mutual if since is None or room_id > since][: _PER_PAGE + 1]
    told: dict[str, Any] = {"joined": page[:_PER_PAGE], "count": len(mutual)}
    return {**told, "next_batch": page[_PER_PAGE - 1]} if len(page) > _PER_PAGE else told
