"""Lookup (Identity Service API, "Association lookup")."""

from typing import Any

import orjson
from fastapi import APIRouter, Request, Response

from identity_server.identity.access.current import authenticate
from identity_server.identity.lookup.find import find_by_address, find_by_hash
from identity_server.identity.lookup.peppers import OpenPeppers, Peppers
from identity_server.identity.lookup.question import read_question
from identity_server.identity.terms.signed import SignedAccount, require_terms
from identity_server.matrix.errors import InvalidPepper
from identity_server.runtime.dependencies import OpenSettings, source_address
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
    question = read_question(await request.body(), resources.settings.lookup)
    if (live := await peppers.accepted(question.pepper)) is None:
        raise InvalidPepper(
            "Unknown or invalid pepper - has it been rotated?",
            algorithm=question.algorithm,
            lookup_pepper=(await peppers.current()).pepper,
        )
    if question.algorithm == "none":
        async with resources.database.reading() as session:
            mappings = orjson.dumps(await find_by_address(session, orjson.loads(question.addresses)))
    else:
        mappings = await find_by_hash(resources.database, live.slot, question.addresses, question.size)
    return Response(b'{"mappings":%b}' % mappings, media_type="application/json")


@router.get("/hash_details")
async def get_hash_details(_account: SignedAccount, peppers: OpenPeppers, settings: OpenSettings) -> dict[str, Any]:
    return {"lookup_pepper": (await peppers.current()).pepper, "algorithms": list(settings.lookup.algorithms)}
