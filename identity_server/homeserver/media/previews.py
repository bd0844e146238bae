"""Previews of pages on the web (Client-Server API, GET /media/preview_url).

Pages are strangers': they are fetched by the guarded client, which reaches no network of ours, and only so much of
them. Whoever asks for a preview uploads its picture, so that it counts as theirs.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import urljoin, urlsplit

from identity_server.homeserver.media.open_graph import properties_of, with_image
from identity_server.homeserver.media.repository import Repository
from identity_server.homeserver.media.thumbnails import picture_of
from identity_server.matrix.errors import BadGateway, InvalidParam, MatrixError
from identity_server.matrix.http import Answer, Http, Unreachable
from identity_server.runtime.clock import Clock
from identity_server.runtime.dependencies import opened

_KEPT_MS = 3_600_000
_MOST_KEPT = 1000
_MOST_BYTES = 4 * 1024 * 1024
_MOST_IMAGE_BYTES = 10 * 1024 * 1024
_REDIRECTS = 5
_TIMEOUT_MS = 10_000
_AT_ONCE = 10
_PAGES = ("text/html", "application/xhtml+xml")
_LONGEST_URL = 4096


@dataclass(frozen=True)
class Previews:
    http: Http
    repository: Repository
    clock: Clock
    _kept: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    """By URL: until when, and the preview."""
    _fetching: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    async def of(self, url: str, user_id: str) -> dict[str, Any]:
        """Raises ``InvalidParam``, and ``BadGateway`` for what cannot be fetched."""
        _check(url)
        now_ms = self.clock.now_ms()
        until_ts, preview = self._kept.get(url, (0, {}))
        if until_ts > now_ms:
            return preview
        async with self._fetching:
            preview = await self._made(url, user_id)
        self._kept.pop(url, None)
        self._kept[url] = (now_ms + _KEPT_MS, preview)
        if len(self._kept) > _MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        return preview

    async def _made(self, url: str, user_id: str) -> dict[str, Any]:
        answer = await self._fetch(url, _MOST_BYTES)
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind.startswith("image/"):
            return with_image({}, await self._image(url, user_id))
        if kind not in _PAGES:
            return {}
        found = await asyncio.to_thread(properties_of, answer.body, answer.headers["content-type"])
        image = found.get("og:image")
        return with_image(found, await self._image(urljoin(url, image), user_id) if image else None)

    async def _image(self, url: str, user_id: str) -> dict[str, Any] | None:
        """What the preview says of the picture; None if there is no such picture to be had."""
        try:
            _check(url)
            answer = await self._fetch(url, _MOST_IMAGE_BYTES)
            picture = await asyncio.to_thread(picture_of, answer.body)
            key = await self.repository.upload(
                user_id, _whole(answer.body), content_type=picture.content_type, file_name=None
            )
        except MatrixError:
            return None
        return {
            "og:image": key.uri,
            "og:image:type": picture.content_type,
            "og:image:width": picture.width,
            "og:image:height": picture.height,
            "matrix:image:size": len(answer.body),
        }

    async def _fetch(self, url: str, max_bytes: int) -> Answer:
        accept = {"accept": "text/html, application/xhtml+xml, image/*;q=0.9, */*;q=0.5"}
        try:
            answer = await self.http.request(
                "GET", url, headers=accept, redirects=_REDIRECTS, timeout_ms=_TIMEOUT_MS, max_bytes=max_bytes
            )
        except Unreachable as error:
            raise BadGateway("The page cannot be fetched") from error
        if answer.status != 200:
            raise BadGateway(f"The page answers with {answer.status}")
        return answer


OpenPreviews = Annotated[Previews, opened("previews")]


def _check(url: str) -> None:
    """Raises ``InvalidParam`` for what is no address on the web."""
    try:
        parts = urlsplit(url)
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.username is None
        _ = parts.port
    except ValueError as error:
        raise InvalidParam("url is not a URL") from error
    if not is_web or len(url) > _LONGEST_URL or not url.isprintable():
        raise InvalidParam("url is not one of a page on the web")


async def _whole(content: bytes) -> AsyncIterator[bytes]:
    yield content
