"""Our media, for other servers (Server-Server API, "Content Repository")."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
from fastapi import APIRouter, Response
from starlette.responses import StreamingResponse

from identity_server.homeserver.federation.requester import Origin
from identity_server.homeserver.media.files import MediaKey
from identity_server.homeserver.media.headers import DEFAULT_TYPE, content_headers, disposition
from identity_server.homeserver.media.models import Media
from identity_server.homeserver.media.multipart import closing, opening
from identity_server.homeserver.media.repository import OpenRepository, Repository, media_key
from identity_server.homeserver.media.serve import Dimension, TimeoutMs, thumbnail_of, wanted_of
from identity_server.homeserver.media.thumbnails import Method
from identity_server.runtime.dependencies import Random

router = APIRouter(prefix="/_matrix/federation/v1/media", tags=["media"])

_BOUNDARY_LENGTH = 32
_CHUNK_BYTES = 256 * 1024
_DEFAULT_TIMEOUT_MS = 20_000


@router.get("/download/{media_id}")
async def download(
    media_id: str,
    _origin: Origin,
    repository: OpenRepository,
    entropy: Random,
    timeout_ms: TimeoutMs = _DEFAULT_TIMEOUT_MS,
) -> Response:
    media = await _ours(repository, media_id, timeout_ms)
    return _with_content(repository, media, entropy.token(_BOUNDARY_LENGTH))


@router.get("/thumbnail/{media_id}")
async def get_thumbnail(
    media_id: str,
    width: Dimension,
    height: Dimension,
    _origin: Origin,
    repository: OpenRepository,
    entropy: Random,
    method: Method = "scale",
    animated: bool | None = None,
    timeout_ms: TimeoutMs = _DEFAULT_TIMEOUT_MS,
) -> Response:
    media = await _ours(repository, media_id, timeout_ms)
    thumbnail = await thumbnail_of(repository, media, wanted_of(width, height, method, animated))
    boundary = entropy.token(_BOUNDARY_LENGTH)
    if thumbnail is None:
        return _with_content(repository, media, boundary)
    headers = {"Content-Type": thumbnail.content_type, "Content-Disposition": disposition("inline", None)}
    body = opening(boundary, headers) + thumbnail.content + closing(boundary)
    return Response(body, headers={"Content-Type": _multipart(boundary)})


async def _ours(repository: Repository, media_id: str, timeout_ms: int) -> Media:
    return await repository.find(media_key(repository.settings.name, media_id), timeout_ms=timeout_ms)


def _with_content(repository: Repository, media: Media, boundary: str) -> Response:
    head = opening(boundary, content_headers(media.content_type or DEFAULT_TYPE, media.file_name))
    tail = closing(boundary)
    length = len(head) + (media.size or 0) + len(tail)
    path = repository.files.path(MediaKey(media.server_name, media.media_id))
    return StreamingResponse(
        _framed(head, path, tail), headers={"Content-Type": _multipart(boundary), "Content-Length": str(length)}
    )


async def _framed(head: bytes, path: Path, tail: bytes) -> AsyncIterator[bytes]:
    yield head
    async with await anyio.open_file(path, "rb") as file:
        while chunk := await file.read(_CHUNK_BYTES):
            yield chunk
    yield tail


def _multipart(boundary: str) -> str:
    return f"multipart/mixed; boundary={boundary}"
