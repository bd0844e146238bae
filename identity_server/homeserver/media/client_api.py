"""Uploading, downloading, thumbnails (Client-Server API, "Content repository")."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from identity_server.homeserver.access.current import CurrentUser
from identity_server.homeserver.media.previews import OpenPreviews
from identity_server.homeserver.media.repository import OpenRepository, Repository, media_key
from identity_server.homeserver.media.serve import (
    Dimension,
    TimeoutMs,
    content_response,
    thumbnail_of,
    thumbnail_response,
    wanted_of,
)
from identity_server.homeserver.media.thumbnails import Method, Wanted
from identity_server.matrix.errors import NotFound
from identity_server.runtime.dependencies import Limits, OpenSettings
from identity_server.runtime.routing import include

UPLOADS = tuple(f"/_matrix/media/{version}/upload" for version in ("v3", "r0", "v1"))
"""Paths whose bodies may be as large as media."""

_DEFAULT_TIMEOUT_MS = 20_000

router = APIRouter(prefix="/_matrix/client/v1/media", tags=["media"])
upload_router = APIRouter(tags=["media"])
# What older clients use: anybody who knows a URI may have what is there.
open_router = APIRouter(tags=["media"])

FileName = Annotated[str | None, Query()]


# With authentication


@router.get("/config")
@upload_router.get("/config")
async def get_configuration(_user: CurrentUser, repository: OpenRepository) -> dict[str, Any]:
    return {"m.upload.size": repository.settings.max_upload_bytes}


@router.get("/download/{server_name}/{media_id}")
@router.get("/download/{server_name}/{media_id}/{file_name}")
async def download(
    server_name: str,
    media_id: str,
    _user: CurrentUser,
    repository: OpenRepository,
    file_name: str | None = None,
    timeout_ms: TimeoutMs = _DEFAULT_TIMEOUT_MS,
) -> Response:
    return await _content(repository, server_name, media_id, file_name, timeout_ms)


@router.get("/thumbnail/{server_name}/{media_id}")
async def get_thumbnail(
    server_name: str,
    media_id: str,
    width: Dimension,
    height: Dimension,
    _user: CurrentUser,
    repository: OpenRepository,
    method: Method = "scale",
    animated: bool | None = None,
    timeout_ms: TimeoutMs = _DEFAULT_TIMEOUT_MS,
) -> Response:
    return await _thumbnail(repository, server_name, media_id, wanted_of(width, height, method, animated), timeout_ms)


@router.get("/preview_url")
@upload_router.get("/preview_url", deprecated=True)
async def preview_url(
    url: str, user: CurrentUser, previews: OpenPreviews, limits: Limits, ts: int | None = None
) -> dict[str, Any]:
    """``ts``: whatever it is, newer previews will do."""
    await limits.hit("upload_per_user", user.user_id)
    return await previews.of(url, user.user_id)


# Uploads


@upload_router.post("/create")
async def create(user: CurrentUser, repository: OpenRepository, limits: Limits) -> dict[str, Any]:
    await limits.hit("upload_per_user", user.user_id)
    key, expires_ts = await repository.create(user.user_id)
    return {"content_uri": key.uri, "unused_expires_at": expires_ts}


@upload_router.post("/upload")
async def upload(
    request: Request, user: CurrentUser, repository: OpenRepository, limits: Limits, filename: FileName = None
) -> dict[str, Any]:
    await limits.hit("upload_per_user", user.user_id)
    content_type = request.headers.get("content-type")
    key = await repository.upload(user.user_id, request.stream(), content_type=content_type, file_name=filename)
    return {"content_uri": key.uri}


@upload_router.put("/upload/{server_name}/{media_id}")
async def upload_to(
    server_name: str,
    media_id: str,
    request: Request,
    user: CurrentUser,
    repository: OpenRepository,
    limits: Limits,
    filename: FileName = None,
) -> dict[str, Any]:
    await limits.hit("upload_per_user", user.user_id)
    await repository.upload(
        user.user_id,
        request.stream(),
        content_type=request.headers.get("content-type"),
        file_name=filename,
        to=media_key(server_name, media_id),
    )
    return {}


# Deprecated: without authentication


async def _is_open(settings: OpenSettings) -> None:
    if not settings.homeserver.unauthenticated_media:
        raise NotFound("Media can be had with authentication only")


@open_router.get("/download/{server_name}/{media_id}", deprecated=True, dependencies=[Depends(_is_open)])
@open_router.get("/download/{server_name}/{media_id}/{file_name}", deprecated=True, dependencies=[Depends(_is_open)])
async def download_openly(
    server_name: str,
    media_id: str,
    repository: OpenRepository,
    file_name: str | None = None,
    allow_remote: bool = True,
    timeout_ms: TimeoutMs = _DEFAULT_TIMEOUT_MS,
) -> Response:
    return await _content(repository, server_name, media_id, file_name, timeout_ms, allow_remote=allow_remote)


@open_router.get("/thumbnail/{server_name}/{media_id}", deprecated=True, dependencies=[Depends(_is_open)])
async def get_thumbnail_openly(
    server_name: str,
    media_id: str,
    width: Dimension,
    height: Dimension,
    repository: OpenRepository,
    method: Method = "scale",
    animated: bool | None = None,
    allow_remote: bool = True,
    timeout_ms: TimeoutMs = _DEFAULT_TIMEOUT_MS,
) -> Response:
    wanted = wanted_of(width, height, method, animated)
    return await _thumbnail(repository, server_name, media_id, wanted, timeout_ms, allow_remote=allow_remote)


async def _content(
    repository: Repository,
    server_name: str,
    media_id: str,
    file_name: str | None,
    timeout_ms: int,
    *,
    allow_remote: bool = True,
) -> Response:
    key = media_key(server_name, media_id)
    media = await repository.find(key, timeout_ms=timeout_ms, allow_remote=allow_remote)
    return content_response(repository, media, file_name)


async def _thumbnail(
    repository: Repository,
    server_name: str,
    media_id: str,
    wanted: Wanted,
    timeout_ms: int,
    *,
    allow_remote: bool = True,
) -> Response:
    key = media_key(server_name, media_id)
    media = await repository.find(key, timeout_ms=timeout_ms, allow_remote=allow_remote)
    return thumbnail_response(repository, media, await thumbnail_of(repository, media, wanted))


def _media_api(version: str) -> APIRouter:
    versioned = APIRouter(prefix=f"/_matrix/media/{version}")
    include(versioned, upload_router, open_router)
    return versioned


ROUTERS = (router, *(_media_api(version) for version in ("v3", "r0", "v1")))
