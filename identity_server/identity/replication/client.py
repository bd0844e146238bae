"""Asking a peer: requests signed with our long-term key, so that they pass through any reverse proxy."""

import asyncio
import gzip
import zlib
from typing import Any

import orjson

from identity_server.identity.replication.models import Peer
from identity_server.identity.replication.page import Page, read_page
from identity_server.identity.replication.proof import Proof, read_proof
from identity_server.identity.signing.keyring import Keyring
from identity_server.matrix.http import Answer, Http
from identity_server.matrix.origin_auth import NO_CONTENT, authorization
from identity_server.runtime.bulk import uncollected

PREFIX = "/_matrix/identity/io.identity_server/replication"

_MAX_ANSWER = 64 * 1024 * 1024


class PeerRefused(Exception):
    """The peer answered with an error, or with what is no answer."""


class PeerClient:
    def __init__(self, http: Http, keyring: Keyring) -> None:
        self._http = http
        self._keyring = keyring

    async def push(self, peer: Peer, page: dict[str, Any]) -> dict[str, Any]:
        return _read(await self._send(peer, "POST", f"{PREFIX}/push", page))

    async def log(self, peer: Peer, after: int, limit: int) -> Page:
        """Raises ``PeerRefused`` too if another page comes than was asked for."""
        answer = await self._send(peer, "GET", f"{PREFIX}/log?after={after}&limit={limit}")
        if answer.status == 400 and after:
            raise PeerRefused(f"its log ends before {after}, which it has signed: was an older state restored there?")
        # Not on the loop: a page of thousands of entries is megabytes.
        page = await asyncio.to_thread(_read_page, answer, peer.name)
        if page.after != after or len(page.entries) > limit:
            raise PeerRefused("it answered with another page than was asked for")
        return page

    async def keys(self, base_url: str) -> dict[str, Any]:
        return _read(await self._http.request("GET", f"{base_url}{PREFIX}/keys"))

    async def head(self, base_url: str) -> dict[str, Any]:
        return _read(await self._http.request("GET", f"{base_url}{PREFIX}/head"))

    async def heads(self, peer: Peer, *, at_most: int) -> list[Any]:
        """The tree heads that it holds of others, as JSON."""
        heads = _read(await self._send(peer, "GET", f"{PREFIX}/heads")).get("heads")
        if not isinstance(heads, list) or len(heads) > at_most:
            raise PeerRefused("its answer holds no heads, or too many")
        return heads

    async def consistency(self, peer: Peer, first: int, second: int) -> Proof:
        url = f"{peer.base_url}{PREFIX}/proof/consistency?first={first}&second={second}"
        try:
            return read_proof(_read(await self._http.request("GET", url)))
        except ValueError as error:
            raise PeerRefused("its answer is no proof") from error

    async def _send(self, peer: Peer, method: str, uri: str, content: Any = NO_CONTENT) -> Answer:
        header = authorization(
            self._keyring.current,
            origin=self._keyring.server_name,
            destination=peer.name,
            method=method,
            uri=uri,
            content=content,
        )
        return await self._http.request(
            method,
            peer.base_url + uri,
            json=None if content is NO_CONTENT else content,
            headers={"authorization": header, "accept-encoding": "gzip"},
            max_bytes=_MAX_ANSWER,
        )


def _read(answer: Answer) -> dict[str, Any]:
    try:
        body = answer.body
        if answer.headers.get("content-encoding") == "gzip":
            body = _unpacked(body)
        value = orjson.loads(body)
    except (ValueError, zlib.error) as error:
        raise PeerRefused(f"it answered with status {answer.status} and no JSON") from error
    if answer.status != 200 or not isinstance(value, dict):
        code = value.get("errcode") if isinstance(value, dict) else None
        raise PeerRefused(f"it answered with status {answer.status} {code or ''}".rstrip())
    return value


def _read_page(answer: Answer, origin: str) -> Page:
    with uncollected():
        return read_page(_read(answer), origin)


def packed(body: bytes) -> bytes:
    return gzip.compress(body, compresslevel=1)


def _unpacked(body: bytes) -> bytes:
    # Bounded: a small answer may unpack to a very large one.
    unpacking = zlib.decompressobj(wbits=31)
    unpacked = unpacking.decompress(body, _MAX_ANSWER)
    if unpacking.unconsumed_tail:
        raise ValueError("too large")
    return unpacked
