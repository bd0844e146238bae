"""Our keys, and as a notary other servers' (Server-Server API, "Retrieving server keys")."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import Field

from identity_server.homeserver.federation.keyring import OpenKeyRing
from identity_server.homeserver.federation.notary import Criteria, attested
from identity_server.homeserver.keys import OpenServerKeys
from identity_server.matrix.canonical_json import LARGEST_INTEGER, canonical_json
from identity_server.matrix.server_keys import publish
from identity_server.runtime.dependencies import Limits, Now, OpenDatabase, Source
from identity_server.runtime.requests import Body, JsonRoute

router = APIRouter(prefix="/_matrix/key/v2", tags=["federation"], route_class=JsonRoute)

Timestamp = Annotated[int, Field(ge=-LARGEST_INTEGER, le=LARGEST_INTEGER)]


class Wanted(Body):
    minimum_valid_until_ts: Timestamp | None = None


class KeyQuery(Body):
    server_keys: dict[str, dict[str, Wanted]] = Field(max_length=500)


@router.get("/server")
@router.get("/server/{key_id}", deprecated=True)
async def get_server_keys(keys: OpenServerKeys, now_ms: Now) -> Response:
    # All keys whichever is asked for, as the specification has it since the parameter is deprecated.
    published = publish(keys.server_name, keys.keys, keys.old_keys, now_ms=now_ms)
    # In the form that was signed: some check the signature without bringing it into that form themselves.
    return Response(canonical_json(published), media_type="application/json")


@router.get("/query/{server_name}")
@router.get("/query/{server_name}/{key_id}", deprecated=True)
async def query_server(
    server_name: str,
    database: OpenDatabase,
    key_ring: OpenKeyRing,
    keys: OpenServerKeys,
    limits: Limits,
    source: Source,
    now_ms: Now,
    minimum_valid_until_ts: Annotated[Timestamp | None, Query()] = None,
    key_id: str | None = None,
) -> dict[str, Any]:
    await limits.hit("key_query_per_source", source)
    criteria = Criteria(frozenset([key_id] if key_id else []), _least(minimum_valid_until_ts, now_ms))
    return await attested(database, key_ring, keys, {server_name: criteria}, now_ms=now_ms)


@router.post("/query")
async def query_servers(
    body: KeyQuery,
    database: OpenDatabase,
    key_ring: OpenKeyRing,
    keys: OpenServerKeys,
    limits: Limits,
    source: Source,
    now_ms: Now,
) -> dict[str, Any]:
    await limits.hit("key_query_per_source", source)
    wanted = {
        server_name: Criteria(
            frozenset(by_key),
            max((_least(one.minimum_valid_until_ts, now_ms) for one in by_key.values()), default=now_ms),
        )
        for server_name, by_key in body.server_keys.items()
    }
    return await attested(database, key_ring, keys, wanted, now_ms=now_ms)


def _least(minimum_valid_until_ts: int | None, now_ms: int) -> int:
    # "If not supplied, the notary server MUST use the current time."
    return now_ms if minimum_valid_until_ts is None else minimum_valid_until_ts
