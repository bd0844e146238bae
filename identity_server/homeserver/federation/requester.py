"""Which server asks (Server-Server API, "Request Authentication")."""

import json
from typing import Annotated, Any, Protocol

from fastapi import Depends, Request

from identity_server.homeserver.federation.keyring import OpenKeyRing
from identity_server.homeserver.keys import OpenServerKeys
from identity_server.matrix.canonical_json import NotCanonical, canonical_json
from identity_server.matrix.errors import NotJson, Unauthorized
from identity_server.matrix.origin_auth import NO_CONTENT, NoServerName, NotAuthentic, verify_request
from identity_server.runtime.dependencies import opened
from identity_server.runtime.requests import parse_object, request_target

_MAX_HEADERS = 5


class MalformedOrigin(Unauthorized):
    status = 400


class Hears(Protocol):
    def heard_from(self, server_name: str) -> None:
        """``server_name`` is there: what it is owed can be sent."""


async def authenticate(
    request: Request,
    keys: OpenServerKeys,
    key_ring: OpenKeyRing,
    sender: Annotated[Hears, opened("federation_sender")],
) -> str:
    """The name of the server that signed the request. Raises ``Unauthorized``, and ``NotJson`` for a broken body."""
    content, lenient = _content(await request.body(), request.method)
    failure = NotAuthentic("no Authorization header")
    # One for each of the origin's keys, should it have several.
    for header in request.headers.getlist("authorization")[:_MAX_HEADERS]:
        try:
            origin = await verify_request(
                header,
                method=request.method,
                uri=request_target(request.scope),
                content=content,
                our_names=(keys.server_name,),
                key_for=key_ring.request_key,
                destination_fields=("destination",),
                lenient=lenient,
            )
        except NotAuthentic as error:
            failure = error
            continue
        if origin == keys.server_name:
            raise Unauthorized("Request not authenticated: it is said to come from ourselves")
        sender.heard_from(origin)
        return origin
    refusal = MalformedOrigin if isinstance(failure, NoServerName) else Unauthorized
    raise refusal(f"Request not authenticated: {failure}")


Origin = Annotated[str, Depends(authenticate)]


def _content(body: bytes, method: str) -> tuple[Any, bool]:
    """What the signature covers, and whether it goes beyond canonical JSON.

    Such content is its reader's to refuse, with an error that says so: the request is authentic nevertheless.
    """
    if not body or (method == "GET" and body == b"{}"):
        return NO_CONTENT, False
    content = parse_object(body)
    try:
        canonical_json(content)
    except NotCanonical:
        try:
            # orjson makes floats of the largest integers, and stops at a depth; they were signed as they stand.
            return json.loads(body), True
        except (ValueError, RecursionError) as error:
            raise NotJson("The request body is not JSON") from error
    return content, False
