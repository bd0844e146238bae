"""Content of ours and copies of others' (Client-Server API, "Content repository")."""

import asyncio
import re
from collections.abc import AsyncIterable
from typing import Annotated

from identity_server.homeserver.media import store
from identity_server.homeserver.media.files import MediaFiles, MediaKey
from identity_server.homeserver.media.headers import clean_content_type, clean_file_name
from identity_server.homeserver.media.models import Media
from identity_server.homeserver.media.remote import RemoteMedia
from identity_server.homeserver.streams import Streams
from identity_server.matrix.errors import Forbidden, LimitExceeded, MatrixError, NotFound, TooLarge
from identity_server.matrix.identifiers import split_server_name
from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database, after_commit
from identity_server.runtime.dependencies import opened
from identity_server.runtime.tokens import Entropy
from identity_server.settings import HomeserverSettings

_ID_LENGTH = 24
_UNUSED_FOR_MS = 86_400_000
_MOST_PENDING = 100
_LOOK_EVERY_MS = 1_000
_RENDERINGS_AT_ONCE = 2
LONGEST_WAIT_MS = 60_000

_MEDIA_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")


class NotYetUploaded(MatrixError):
    status = 504
    errcode = "M_NOT_YET_UPLOADED"


class CannotOverwriteMedia(MatrixError):
    status = 409
    errcode = "M_CANNOT_OVERWRITE_MEDIA"


def media_key(server_name: str, media_id: str) -> MediaKey:
    """Raises ``NotFound`` for what no ``mxc://`` URI can name ("Security considerations")."""
    try:
        split_server_name(server_name)
    except ValueError as error:
        raise NotFound("There is no such media") from error
    if not _MEDIA_ID.fullmatch(media_id) or len(server_name) > 255:
        raise NotFound("There is no such media")
    return MediaKey(server_name, media_id)


class Repository:
    def __init__(
        self,
        database: Database,
        files: MediaFiles,
        remote: RemoteMedia,
        streams: Streams,
        settings: HomeserverSettings,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self.files = files
        self.settings = settings
        self.rendering = asyncio.Semaphore(_RENDERINGS_AT_ONCE)
        """Of thumbnails: each takes a processor, and memory for a whole picture."""
        self._database = database
        self._remote = remote
        self._streams = streams
        self._clock = clock
        self._entropy = entropy

    # Uploads

    async def create(self, user_id: str) -> tuple[MediaKey, int]:
        """A URI whose content is to come, and until when (ms). Raises ``LimitExceeded``."""
        now_ms = self._clock.now_ms()
        key = self._new_key()
        expires_ts = now_ms + _UNUSED_FOR_MS
        async with self._database.transaction() as session:
            await store.remove_expired(session, now_ms=now_ms)
            if await store.pending_of(session, user_id, now_ms=now_ms) >= _MOST_PENDING:
                raise LimitExceeded(retry_after_ms=60_000)
            await store.add(session, Media(*key, now_ms, uploader=user_id, expires_ts=expires_ts))
        return key, expires_ts

    async def upload(
        self,
        user_id: str,
        chunks: AsyncIterable[bytes],
        *,
        content_type: str | None,
        file_name: str | None,
        to: MediaKey | None = None,
    ) -> MediaKey:
        """Where the content is; ``to``: a URI that was created for it.

        Raises ``TooLarge``, ``Forbidden``, ``NotFound`` and ``CannotOverwriteMedia``.
        """
        if to is not None:
            await self._check_own(user_id, to)
        await self._check_quota(user_id)
        temporary, size = await self.files.receive(self._bounded(chunks))
        key = to or self._new_key()
        about = {"content_type": clean_content_type(content_type), "file_name": clean_file_name(file_name)}
        try:
            async with self._database.transaction() as session:
                if to is None:
                    now_ms = self._clock.now_ms()
                    await store.add(session, Media(*key, now_ms, uploader=user_id))
                if not await store.set_content(
                    session,
                    *key,
                    content_type=about["content_type"] or "",
                    file_name=about["file_name"],
                    size=size,
                ):
                    raise CannotOverwriteMedia("The media has content already")
                # In place before anybody is told of it.
                await self.files.keep(temporary, key)
                after_commit(session, lambda: self._streams.wake([key.uri]))
        finally:
            await self.files.drop(temporary)
        return key

    async def _check_own(self, user_id: str, key: MediaKey) -> None:
        async with self._database.reading() as session:
            media = await store.find(session, *key)
        if key.server_name != self.settings.name or media is None:
            raise NotFound("The media ID was not created here")
        if media.uploader != user_id:
            raise Forbidden("The media ID was created by somebody else")
        if media.size is not None:
            raise CannotOverwriteMedia("The media has content already")
        if media.expires_ts is not None and media.expires_ts <= self._clock.now_ms():
            raise NotFound("The media ID has expired")

    async def _check_quota(self, user_id: str) -> None:
        if quota := self.settings.max_media_bytes_per_user:
            async with self._database.reading() as session:
                if await store.bytes_of(session, user_id) >= quota:
                    raise Forbidden("You have uploaded as much as you may")

    async def _bounded(self, chunks: AsyncIterable[bytes]) -> AsyncIterable[bytes]:
        size = 0
        async for chunk in chunks:
            size += len(chunk)
            if size > self.settings.max_upload_bytes:
                raise TooLarge("The content is larger than this server takes")
            yield chunk

    def _new_key(self) -> MediaKey:
        return MediaKey(self.settings.name, self._entropy.token(_ID_LENGTH))

    # Downloads

    async def find(self, key: MediaKey, *, timeout_ms: int, allow_remote: bool = True) -> Media:
        """The media, once its content is here.

        Raises ``NotFound``, ``NotYetUploaded`` after ``timeout_ms``, and what fetching it raises.
        """
        timeout_ms = max(0, min(timeout_ms, LONGEST_WAIT_MS))
        if key.server_name == self.settings.name:
            return await self._find_own(key, timeout_ms)
        async with self._database.reading() as session:
            media = await store.find(session, *key)
        if media is None:
            if not allow_remote:
                raise NotFound("The media is not here")
            media = await self._remote.fetch(key, timeout_ms=timeout_ms)
        return media

    async def _find_own(self, key: MediaKey, timeout_ms: int) -> Media:
        with self._streams.listening([key.uri]) as listener:
            while True:
                async with self._database.reading() as session:
                    media = await store.find(session, *key)
                if media is None:
                    raise NotFound("There is no such media")
                if media.size is not None:
                    return media
                if media.expires_ts is not None and media.expires_ts <= self._clock.now_ms():
                    raise NotFound("There is no such media")
                if timeout_ms <= 0:
                    raise NotYetUploaded("The content has not been uploaded yet")
                # Another worker may have taken the upload: it is looked for too.
                wait_ms = min(_LOOK_EVERY_MS, timeout_ms)
                await listener.wait(wait_ms)
                timeout_ms -= wait_ms

    # Housekeeping

    async def purge(self, now_ms: int) -> None:
        """Forget what was never uploaded, and the oldest of others' media when there is too much of it."""
        async with self._database.transaction() as session:
            await store.remove_expired(session, now_ms=now_ms)
        while True:
            async with self._database.reading() as session:
                too_much = await store.remote_bytes(session, self.settings.name) - self.settings.max_remote_media_bytes
                oldest = await store.oldest_remote(session, self.settings.name, 100) if too_much > 0 else ()
            if not oldest:
                return
            for media in oldest:
                async with self._database.transaction() as session:
                    await store.remove(session, media.server_name, media.media_id)
                await self.files.remove(MediaKey(media.server_name, media.media_id))
                too_much -= media.size or 0
                if too_much <= 0:
                    return
            await asyncio.sleep(0)


OpenRepository = Annotated[Repository, opened("media")]
