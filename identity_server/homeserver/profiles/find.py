"""Looking profiles up, ours and, by asking their servers, others' (Server-Server API, "Querying for information")."""

from typing import Any

from identity_server.homeserver.accounts import store as accounts
from identity_server.homeserver.federation.calls import FederationCalls, federation_path
from identity_server.homeserver.profiles import store
from identity_server.matrix.errors import BadGateway, Forbidden, InvalidParam, NotFound
from identity_server.matrix.http import Unreachable
from identity_server.matrix.identifiers import check_user_id, domain_of
from identity_server.matrix.json_api import Refused
from identity_server.runtime.database import Database

_PATIENCE_MS = 10_000


async def find_profile(
    database: Database, calls: FederationCalls, user_id: str, field: str | None = None
) -> dict[str, Any]:
    """The profile, or of it ``field`` only. Raises ``NotFound``, ``Forbidden``, ``InvalidParam``, ``BadGateway``."""
    try:
        server_name = domain_of(check_user_id(user_id))
    except ValueError as error:
        raise InvalidParam("That is no user ID") from error
    if server_name == calls.keys.server_name:
        profile = await our_profile(database, user_id)
    else:
        profile = await _ask(calls, server_name, user_id, field)
    wanted = profile if field is None else {field: profile[field]} if field in profile else {}
    if not wanted:
        raise NotFound("There is no such profile" if field is None else "There is no such profile field")
    return wanted


async def our_profile(database: Database, user_id: str) -> dict[str, Any]:
    """Raises ``NotFound`` if there is no such user (any more)."""
    async with database.reading() as session:
        if not await accounts.is_active(session, user_id):
            raise NotFound("There is no such user")
        return await store.profile_of(session, user_id)


async def _ask(calls: FederationCalls, server_name: str, user_id: str, field: str | None) -> dict[str, Any]:
    query = {"user_id": user_id, **({"field": field} if field else {})}
    try:
        answer = await calls.get(server_name, federation_path("query", "profile", query=query), timeout_ms=_PATIENCE_MS)
    except Refused as refusal:
        if refusal.status == 403:
            raise Forbidden("The user's server does not tell") from refusal
        if refusal.status == 404:
            raise NotFound("There is no such profile") from refusal
        raise BadGateway("The user's server does not tell") from refusal
    except Unreachable as error:
        raise BadGateway("The user's server cannot be reached") from error
    return {name: value for name, value in answer.items() if value is not None}
