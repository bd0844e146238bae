"""Answering with content, and with smaller pictures of it."""

import asyncio
from typing import Annotated

from fastapi import Query, Response
from starlette.responses import FileResponse

from identity_server.homeserver.media.files import MediaKey
from identity_server.homeserver.media.headers import DEFAULT_TYPE, SAFETY, content_headers, disposition
from identity_server.homeserver.media.models import Media
from identity_server.homeserver.media.repository import Repository
from identity_server.homeserver.media.thumbnails import (
    Method,
    NoThumbnail,
    PictureTooLarge,
    Thumbnail,
    Wanted,
    make_thumbnail,
)
from identity_server.matrix.errors import PassedOn

_SERVED = ("image/jpeg", "image/png", "image/apng", "image/gif", "image/webp")
_SUFFIX = {"image/png": ".png", "image/jpeg": ".jpeg", "image/webp": ".webp"}

TimeoutMs = Annotated[int, Query(ge=0, le=2**53)]
Dimension = Annotated[int, Query(ge=1, le=100_000)]


def content_response(repository: Repository, media: Media, file_name: str | None = None) -> Response:
    """``file_name`` in place of the one that it was uploaded with."""
    path = repository.files.path(MediaKey(media.server_name, media.media_id))
    headers = content_headers(media.content_type or DEFAULT_TYPE, file_name or media.file_name)
    return FileResponse(path, headers={**SAFETY, **headers})


async def thumbnail_of(repository: Repository, media: Media, wanted: Wanted) -> Thumbnail | None:
    """None: the content itself is what is to be served.

    Raises ``NoThumbnail`` and ``PictureTooLarge``, or 502 in place of the latter if the content is another server's.
    """
    key = MediaKey(media.server_name, media.media_id)
    usual = wanted.usual()
    for suffix in _SUFFIX.values() if usual.is_usual else ():
        kept = await asyncio.to_thread(_read, repository, key, usual.name + suffix)
        if kept is not None:
            return Thumbnail(next(kind for kind, ending in _SUFFIX.items() if ending == suffix), kept)
    try:
        async with repository.rendering:
            thumbnail = await asyncio.to_thread(make_thumbnail, repository.files.path(key), usual)
    except PictureTooLarge as error:
        if media.server_name == repository.settings.name:
            raise
        raise PassedOn(502, error.errcode, str(error)) from error
    if thumbnail is None:
        if (media.content_type or "").partition(";")[0].strip().lower() not in _SERVED:
            raise NoThumbnail("Cannot generate thumbnails for the requested content")
        return None
    if usual.is_usual:
        target = repository.files.thumbnail(key, usual.name + _SUFFIX[thumbnail.content_type])
        await repository.files.write(target, thumbnail.content)
    return thumbnail


def thumbnail_response(repository: Repository, media: Media, thumbnail: Thumbnail | None) -> Response:
    if thumbnail is None:
        response = content_response(repository, media)
        response.headers["Content-Disposition"] = disposition("inline", media.file_name)
        return response
    name = f"thumbnail{_SUFFIX[thumbnail.content_type]}"
    headers = {"Content-Type": thumbnail.content_type, "Content-Disposition": disposition("inline", name)}
    return Response(thumbnail.content, headers={**SAFETY, **headers})


def wanted_of(width: int, height: int, method: Method, animated: bool | None) -> Wanted:
    return Wanted(width, height, method, bool(animated))


def _read(repository: Repository, key: MediaKey, name: str) -> bytes | None:
    try:
        return repository.files.thumbnail(key, name).read_bytes()
    except OSError:
        return None
