"""What peers ask of us, and auditors."""

import asyncio
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response
from unpaddedbase64 import encode_base64

from identity_server.identity.associations import store as associations
from identity_server.identity.associations.tree import consistency_proof, inclusion_proof, open_tree
from identity_server.identity.replication.client import PREFIX, packed
from identity_server.identity.replication.compare import heads_we_hold
from identity_server.identity.replication.keys import publish_keys
from identity_server.identity.replication.log import head_of_ours, page_of_ours
from identity_server.identity.replication.page import Page, read_page
from identity_server.identity.replication.proof import sign_proof
from identity_server.identity.replication.receive import Peers
from identity_server.identity.signing.keyring import OpenKeyring
from identity_server.matrix.errors import InvalidParam, Unauthorized
from identity_server.matrix.origin_auth import NO_CONTENT, NotAuthentic, verify_request
from identity_server.runtime.bulk import uncollected
from identity_server.runtime.dependencies import Now, OpenResources, Reading, opened
from identity_server.runtime.requests import parse_object, request_target
from identity_server.settings import Settings

router = APIRouter(prefix=PREFIX, tags=["replication"])

OpenPeers = Annotated[Peers, opened("peers")]
Position = Annotated[int, Query(ge=0, le=2**53)]


@router.get("/keys")
async def get_keys(keyring: OpenKeyring) -> dict[str, Any]:
    return publish_keys(keyring)


@router.get("/head")
async def get_head(session: Reading, keyring: OpenKeyring, now_ms: Now) -> dict[str, Any]:
    return (await head_of_ours(session, keyring=keyring, now_ms=now_ms)).signed


@router.get("/proof/inclusion")
async def prove_inclusion(position: Position, tree_size: Position, session: Reading, keyring: OpenKeyring) -> Any:
    """That the entry at ``position`` (from 1) stands in the tree of ``tree_size`` entries (RFC 6962, 2.1.1)."""
    if not 0 < position <= tree_size <= (await associations.head(session)).position:
        raise InvalidParam("There is no such entry or tree")
    proof = await inclusion_proof(await open_tree(session, keyring.server_name), position - 1, tree_size)
    return {"path": [encode_base64(hash_) for hash_ in proof]}


@router.get("/proof/consistency")
async def prove_consistency(first: Position, second: Position, session: Reading, keyring: OpenKeyring) -> Any:
    """That the tree of ``first`` entries is the beginning of that of ``second`` (RFC 6962, 2.1.2)."""
    if not first <= second <= (await associations.head(session)).position:
        raise InvalidParam("There is no such tree")
    proof = await consistency_proof(await open_tree(session, keyring.server_name), first, second)
    return sign_proof(keyring, first, second, proof)


@router.get("/heads")
async def get_heads(request: Request, peers: OpenPeers, resources: OpenResources) -> dict[str, Any]:
    """The tree heads that we hold of our peers, for peers: so they notice whom others are shown another log of."""
    origin = await _authenticated(request, NO_CONTENT, peers, resources.settings)
    await resources.limits.hit("replication_per_peer", origin)
    async with resources.database.reading() as session:
        return await heads_we_hold(session)


@router.get("/log")
async def get_log(
    request: Request,
    peers: OpenPeers,
    resources: OpenResources,
    keyring: OpenKeyring,
    after: Position = 0,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
) -> Response:
    """Our log behind the position ``after``, for peers."""
    origin = await _authenticated(request, NO_CONTENT, peers, resources.settings)
    await resources.limits.hit("replication_per_peer", origin)
    await peers.heard(origin)
    async with resources.database.reading() as session:
        page = await page_of_ours(session, after, limit, keyring=keyring, now_ms=resources.clock.now_ms())
    # Not on the loop: a page of thousands of entries is megabytes.
    return await asyncio.to_thread(_answer, page, "gzip" in request.headers.get("accept-encoding", ""))


@router.post("/push")
async def take_push(request: Request, peers: OpenPeers, resources: OpenResources) -> dict[str, Any]:
    """A page of the sender's log. Answers how far we have it now, and what of the page was set aside."""
    body = parse_object(await request.body())
    origin = await _authenticated(request, body, peers, resources.settings)
    await resources.limits.hit("replication_per_peer", origin)
    page = read_page(body, origin)
    taken = await peers.take(page, await peers.check(page))
    return {"position": taken.position, "refused": {str(position): why for position, why in taken.refused.items()}}


def _answer(page: Page, is_packed: bool) -> Response:
    with uncollected():
        body = orjson.dumps(page.as_json())
    if not is_packed:
        return Response(body, media_type="application/json")
    return Response(packed(body), headers={"Content-Encoding": "gzip"}, media_type="application/json")


async def _authenticated(request: Request, content: Any, peers: Peers, settings: Settings) -> str:
    """The peer that signed the request. Raises ``Unauthorized`` or ``UnknownPeer``."""
    try:
        return await verify_request(
            request.headers.get("authorization"),
            method=request.method,
            uri=request_target(request.scope),
            content=content,
            our_names=settings.our_names,
            key_for=peers.key,
        )
    except NotAuthentic as error:
        raise Unauthorized("The request is not signed by a peer") from error
