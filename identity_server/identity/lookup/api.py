"""Lookup (Identity Service API, "Association lookup")."""

from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from identity_server.identity.access.current import authenticate
from identity_server.identity.lookup.find import find_by_address, find_by_hash
from identity_server.identity.lookup.peppers import OpenPeppers, Peppers
from identity_server.identity.terms.signed import SignedAccount, require_terms
from identity_server.matrix.errors import InvalidParam, InvalidPepper, MissingParams, TooLarge
from identity_server.runtime.dependencies import OpenSettings, source_address
from identity_server.runtime.requests import parse_object
from identity_server.runtime.resources import Resources

router = APIRouter(prefix="/_matrix/identity/v2", tags=["lookup"])

_REQUEST_SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["algorithm", "pepper", "addresses"],
                    "properties": {
                        "algorithm": {"type": "string"},
                        "pepper": {"type": "string"},
                        "addresses": {"type": "array", "items": {"type": "string"}},
                    },
                }
            }
        },
    }
}


# The hot path: no model between the bytes and the statement, and nothing that FastAPI would have to resolve first; it
# is no part of the way to it (``runtime/shortcut.py``). So a lookup of one hash costs 90 µs in place of 190.
@router.post("/lookup", openapi_extra=_REQUEST_SCHEMA)
async def look_up(request: Request) -> Response:
    resources: Resources = request.state.resources
    peppers: Peppers = request.state.peppers
    account = await require_terms(await authenticate(request, resources), resources)
    await resources.limits.hit("lookup_per_account", account.user_id)
    await resources.limits.hit("lookup_per_source", await source_address(request))
    body = parse_object(await request.body())
    algorithm, pepper, addresses = _text(body, "algorithm"), _text(body, "pepper"), _addresses(body)
    settings = resources.settings.lookup
    if algorithm not in settings.algorithms:
        raise InvalidParam("The algorithm is not supported")
    if len(addresses) > settings.max_addresses:
        raise TooLarge(f"At most {settings.max_addresses} addresses are looked up at once")
    if (live := await peppers.accepted(pepper)) is None:
        raise InvalidPepper(
            "Unknown or invalid pepper - has it been rotated?",
            algorithm=algorithm,
            lookup_pepper=(await peppers.current()).pepper,
        )
    if algorithm == "none":
        async with resources.database.reading() as session:
            mappings = orjson.dumps(await find_by_address(session, addresses))
    else:
        mappings = await find_by_hash(resources.database, live.slot, addresses)
    return Response(b'{"mappings":%b}' % mappings, media_type="application/json")


@router.get("/hash_details")
async def get_hash_details(_account: SignedAccount, peppers: OpenPeppers, settings: OpenSettings) -> dict[str, Any]:
    return {"lookup_pepper": (await peppers.current()).pepper, "algorithms": list(settings.lookup.algorithms)}


def _text(body: Mapping[str, Any], name: str) -> str:
    if name not in body:
        raise MissingParams(f"{name} is missing")
    if not isinstance(body[name], str):
        raise InvalidParam(f"{name} must be a string")
    return str(body[name])


def _addresses(body: Mapping[str, Any]) -> list[str]:
    if "addresses" not in body:
        raise MissingParams("addresses is missing")
    addresses = body["addresses"]
    if not isinstance(addresses, list) or not set(map(type, addresses)) <= {str}:
        raise InvalidParam("addresses must be a list of strings")
    return addresses
