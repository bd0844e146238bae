"""Finding users (Client-Server API, "User Directory")."""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from identity_server.homeserver.access.current import CurrentUser
from identity_server.homeserver.user_directory.search import search
from identity_server.matrix.identifiers import Text
from identity_server.runtime.dependencies import Limits, OpenSettings, Reading
from identity_server.runtime.requests import Body, JsonRoute

router = APIRouter(prefix="/user_directory", tags=["user directory"], route_class=JsonRoute)

_MOST = 50


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
