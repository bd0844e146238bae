"""Fetching other servers' media, once, for as long as there is room (Server-Server API, "Content Repository")."""

from collections.abc import AsyncIterable
from urllib.parse import quote

from identity_server.homeserver.federation.calls import FederationCalls
from identity_server.homeserver.media import store
from identity_server.homeserver.media.files import MediaFiles, MediaKey
from identity_server.homeserver.media.headers import clean_content_type, file_name_in
from identity_server.homeserver.media.models import Media
from identity_server.homeserver.media.multipart import Malformed, Part, content_part
from identity_server.matrix.errors import BadGateway, NotFound, PassedOn
from identity_server.matrix.http import Answer, Http, TooMuch, Unreachable
from identity_server.matrix.single_flight import SingleFlight
from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database

_OVERHEAD_BYTES = 64 * 1024
_PATIENCE_MS = 60_000
_REDIRECTS = 3


class RemoteMedia:
    def __init__(
        self,
        database: Database,
        files: MediaFiles,
        calls: FederationCalls,
        http: Http,
        clock: Clock,
        *,
        max_bytes: int,
    ) -> None:
        self._database = database
        self._files = files
        self._calls = calls
        self._http = http
        self._clock = clock
        self._max_bytes = max_bytes
        self._fetching: SingleFlight[MediaKey, Media] = SingleFlight()

    async def fetch(self, key: MediaKey, *, timeout_ms: int) -> Media:
        """Raises ``NotFound``, ``BadGateway`` and ``PassedOn``: 504 for what is not uploaded yet, 502 for too much."""
        return await self._fetching.run(key, lambda: self._fetch(key, timeout_ms))

    async def _fetch(self, key: MediaKey, timeout_ms: int) -> Media:
        async with self._database.reading() as session:
            if media := await store.find(session, *key):
                return media  # come in between looking and asking
        try:
            part = await self._download(key, timeout_ms)
        except TooMuch as error:
            raise PassedOn(502, "M_TOO_LARGE", "The content is larger than this server takes") from error
        except (Unreachable, Malformed) as error:
            raise BadGateway("The media's server cannot be reached") from error
        temporary, size = await self._files.receive(_once(part.content))
        media = Media(
            *key,
            self._clock.now_ms(),
            content_type=clean_content_type(part.headers.get("content-type")),
            file_name=file_name_in(part.headers.get("content-disposition", "")),
            size=size,
        )
        await self._files.keep(temporary, key)
        async with self._database.transaction() as session:
            await store.add(session, media)
        return media

    async def _download(self, key: MediaKey, timeout_ms: int) -> Part:
        media_id = quote(key.media_id, safe="")
        answer = await self._ask(
            key.server_name, f"/_matrix/federation/v1/media/download/{media_id}?timeout_ms={timeout_ms}", timeout_ms
        )
        if answer.status == 200:
            part = content_part(answer.headers.get("content-type", ""), answer.body)
            location = part.headers.get("location")
            return await self._redirected(location) if location else part
        if _errcode(answer) == "M_UNRECOGNIZED":
            # "falling back to the deprecated endpoints when they receive a `404 M_UNRECOGNIZED` error"
            server_name = quote(key.server_name, safe="")
            answer = await self._ask(
                key.server_name,
                f"/_matrix/media/v3/download/{server_name}/{media_id}?allow_remote=false&timeout_ms={timeout_ms}"
                "&allow_redirect=true",
                timeout_ms,
            )
            if answer.status in (307, 308) and "location" in answer.headers:
                return await self._redirected(answer.headers["location"])
            if answer.status == 200:
                return Part(answer.headers, answer.body)
        raise _failure(answer)

    async def _ask(self, server_name: str, path: str, timeout_ms: int) -> Answer:
        return await self._calls.request(
            "GET",
            server_name,
            path,
            timeout_ms=timeout_ms + _PATIENCE_MS,
            max_bytes=self._max_bytes + _OVERHEAD_BYTES,
        )

    async def _redirected(self, location: str) -> Part:
        answer = await self._http.request(
            "GET",
            location,
            redirects=_REDIRECTS,
            timeout_ms=_PATIENCE_MS,
            max_bytes=self._max_bytes,
        )
        if answer.status != 200:
            raise _failure(answer)
        return Part(answer.headers, answer.body)


def _failure(answer: Answer) -> Exception:
    errcode = _errcode(answer)
    if errcode == "M_NOT_YET_UPLOADED":
        return PassedOn(504, errcode, "The content has not been uploaded yet")
    if errcode == "M_TOO_LARGE":
        return PassedOn(502, errcode, "The content is larger than its server serves")
    if answer.status in (403, 404, 410):
        return NotFound("The media's server does not have it")
    return BadGateway("The media's server does not serve it")


def _errcode(answer: Answer) -> str | None:
    try:
        body = answer.json()
    except ValueError:
        return None
    errcode = body.get("errcode") if isinstance(body, dict) else None
    return errcode if isinstance(errcode, str) else None


async def _once(content: bytes) -> AsyncIterable[bytes]:
    yield content
