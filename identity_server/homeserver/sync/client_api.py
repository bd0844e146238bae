"""Telling clients what happens (Client-Server API, "Syncing" and "Filtering")."""

from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Query, Response

from identity_server.homeserver.access.current import CurrentUser
from identity_server.homeserver.presence.attendance import OpenAttendance
from identity_server.homeserver.streams import OpenStreams
from identity_server.homeserver.sync.filter import SyncFilter, read_filter
from identity_server.homeserver.sync.filters import filter_definition, put_filter
from identity_server.homeserver.sync.notifications import notifications_of
from identity_server.homeserver.sync.parts import OpenSync
from identity_server.homeserver.sync.request import SyncRequest
from identity_server.homeserver.sync.token import read_token
from identity_server.homeserver.sync.wait import Waiter
from identity_server.homeserver.timeline.client_format import Viewer
from identity_server.matrix.errors import BadJson, Forbidden, InvalidParam, NotFound
from identity_server.matrix.identifiers import Text
from identity_server.runtime.database import Database
from identity_server.runtime.dependencies import Now, OpenDatabase, OpenResources, Reading, Transaction
from identity_server.runtime.errors import json_response
from identity_server.runtime.requests import JsonRoute

router = APIRouter(tags=["sync"], route_class=JsonRoute)

_LONGEST_FILTER = 100_000
_MOST_NOTIFICATIONS = 100


@router.get("/sync")
async def get_sync(
    user: CurrentUser,
    database: OpenDatabase,
    streams: OpenStreams,
    parts: OpenSync,
    attendance: OpenAttendance,
    resources: OpenResources,
    filter_: Annotated[str | None, Query(alias="filter")] = None,
    since: str | None = None,
    full_state: bool = False,
    set_presence: Literal["offline", "online", "unavailable"] = "online",
    timeout_ms: Annotated[int, Query(alias="timeout", ge=0)] = 0,
    use_state_after: bool = False,
) -> Response:
    request = SyncRequest(
        user.user_id,
        user.device_id,
        read_token(since) if since else None,
        await _filter(database, user.user_id, filter_),
        full_state=full_state,
        state_after=use_state_after,
    )
    async with attendance.syncing(user.user_id, user.device_id, set_presence):
        answer = await Waiter(database, streams, parts, attendance, resources.clock).answer(
            request, timeout_ms=timeout_ms
        )
    return json_response(answer)


@router.get("/notifications")
async def get_notifications(
    user: CurrentUser,
    session: Reading,
    parts: OpenSync,
    now_ms: Now,
    from_: Annotated[str | None, Query(alias="from", pattern=r"^[0-9]{1,18}$")] = None,
    limit: Annotated[int, Query(ge=1)] = 20,
    only: str | None = None,
) -> dict[str, Any]:
    return await notifications_of(
        session,
        parts,
        Viewer(user.user_id, user.device_id),
        before=int(from_) if from_ else None,
        limit=min(limit, _MOST_NOTIFICATIONS),
        highlighted=only == "highlight",
        now_ms=now_ms,
    )


@router.post("/user/{user_id}/filter")
async def post_filter(user_id: str, body: dict[str, Any], user: CurrentUser, session: Transaction) -> dict[str, Any]:
    _check_own(user_id, user.user_id)
    read_filter(body)
    if len(orjson.dumps(body)) > _LONGEST_FILTER:
        raise InvalidParam("The filter is too long")
    return {"filter_id": await put_filter(session, user_id, body)}


@router.get("/user/{user_id}/filter/{filter_id}")
async def get_filter(user_id: str, filter_id: Text, user: CurrentUser, session: Reading) -> dict[str, Any]:
    _check_own(user_id, user.user_id)
    definition = await filter_definition(session, user_id, filter_id)
    if definition is None:
        raise NotFound("There is no such filter")
    return definition


async def _filter(database: Database, user_id: str, filter_: str | None) -> SyncFilter:
    """Raises ``InvalidParam`` and ``BadJson``."""
    if not filter_:
        return SyncFilter()
    if filter_.startswith("{"):
        try:
            return read_filter(orjson.loads(filter_))
        except orjson.JSONDecodeError as error:
            raise BadJson("The filter is not JSON") from error
    if "\0" in filter_:
        raise InvalidParam("There is no such filter")
    async with database.reading() as session:
        definition = await filter_definition(session, user_id, filter_)
    if definition is None:
        raise InvalidParam("There is no such filter")
    return read_filter(definition)


def _check_own(user_id: str, requester: str) -> None:
    if user_id != requester:
        raise Forbidden("One's own filters only")
