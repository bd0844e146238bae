"""Asking a peer: requests signed with our long-term key, so that they pass through any reverse proxy."""

import gzip
import zlib
from typing import Any

import orjson

from identity_server.identity.replication.models import Peer
from identity_server.identity.signing.keyring import Keyring
from identity_server.matrix.http import Answer, Http
from identity_server.matrix.origin_auth import NO_CONTENT, authorization

PREFIX = "/_matrix/identity/io.identity_server/replication"

_MAX_ANSWER = 64 * 1024 * 1024


class PeerRefused(Exception):
    """The peer answered with an error, or with what is no answer."""


class PeerClient:
    def __init__(self, http: Http, keyring: Keyring) -> None:
        self._http = http
        self._keyring = keyring

    async def push(self, peer: Peer, page: dict[str, Any]) -> dict[str, Any]:
        return await self._ask(peer, "POST", f"{PREFIX}/push", page)

    async def log(self, peer: Peer, after: int, limit: int) -> dict[str, Any]:
        return await self._ask(peer, "GET", f"{PREFIX}/log?after={after}&limit={limit}")

    async def keys(self, base_url: str) -> dict[str, Any]:
        return _read(await self._http.request("GET", f"{base_url}{PREFIX}/keys"))

    async def head(self, base_url: str) -> dict[str, Any]:
        return _read(await self._http.request("GET", f"{base_url}{PREFIX}/head"))

    async def _ask(self, peer: Peer, method: str, uri: str, content: Any = NO_CONTENT) -> dict[str, Any]:
        header = authorization(
            self._keyring.current,
            origin=self._keyring.server_name,
            destination=peer.name,
            method=method,
            uri=uri,
            content=content,
        )
        answer = await self._http.request(
            method,
            peer.base_url + uri,
            json=None if content is NO_CONTENT else content,
            headers={"authorization": header, "accept-encoding": "gzip"},
            max_bytes=_MAX_ANSWER,
        )
        return _read(answer)


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


def packed(body: bytes) -> bytes:
    return gzip.compress(body, compresslevel=1)


def _unpacked(body: bytes) -> bytes:
    # Bounded: a small answer may unpack to a very large one.
    unpacking = zlib.decompressobj(wbits=31)
    unpacked = unpacking.decompress(body, _MAX_ANSWER)
    if unpacking.unconsumed_tail:
        raise ValueError("too large")
    return unpacked
