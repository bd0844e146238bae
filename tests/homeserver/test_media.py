import asyncio
import io
from typing import Any

import pytest
from httpx import AsyncClient, Response
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from identity_server.homeserver.media.files import MediaKey
from identity_server.homeserver.media.headers import disposition, file_name_in
from identity_server.homeserver.media.multipart import Malformed, closing, content_part, opening
from identity_server.homeserver.media.remote import RemoteMedia
from identity_server.matrix.http import Answer, TooMuch, Unreachable
from identity_server.runtime.clock import FakeClock
from identity_server.settings import HomeserverSettings
from tests.homeserver.conftest import Register, bearing
from tests.homeserver.test_accounts import outcome

V1 = "/_matrix/client/v1/media"
V3 = "/_matrix/media/v3"


@pytest.fixture
def engine() -> str:
    """What is kept in the database is little: on PostgreSQL the stories at the end are enough."""
    return "sqlite"


@pytest.fixture
def homeserver() -> HomeserverSettings:
    return HomeserverSettings(name="hs.test", registration=True, max_upload_bytes=3_000_000)


async def upload(
    client: AsyncClient, login: dict[str, Any], content: bytes, content_type: str | None = None, **query: str
) -> str:
    """``hs.test/<media ID>``."""
    headers = bearing(login) | ({"content-type": content_type} if content_type else {})
    answer = await client.post(f"{V3}/upload", content=content, headers=headers, params=query)
    assert answer.status_code == 200, answer.text
    uri: str = answer.json()["content_uri"]
    assert uri.startswith("mxc://hs.test/")
    return uri.removeprefix("mxc://")


async def get(client: AsyncClient, login: dict[str, Any], path: str, **query: Any) -> Response:
    return await client.get(f"{V1}/{path}", headers=bearing(login), params=query)


def picture(width: int, height: int, kind: str = "PNG", mode: str = "RGB", frames: int = 1) -> bytes:
    file = io.BytesIO()
    images = [Image.new(mode, (width, height), (40 * n, 90, 0, 128)[: len(mode)]) for n in range(frames)]
    if frames > 1:
        images[0].save(file, kind, save_all=True, append_images=images[1:], duration=50)
    else:
        images[0].save(file, kind)
    return file.getvalue()


def opened(answer: Response) -> Image.Image:
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content))


async def test_what_is_uploaded_is_served_as_it_was(client: AsyncClient, register: Register) -> None:
    login = await register()
    content = b"x" * 2_500_000  # more than other bodies may have
    media = await upload(client, login, content, "application/pdf", filename="report.pdf")
    answer = await get(client, login, f"download/{media}")
    assert answer.content == content
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.headers["content-disposition"] == "attachment; filename=report.pdf"
    assert answer.headers["content-length"] == "2500000"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    assert answer.headers["access-control-allow-origin"] == "*"
    named = await get(client, login, f"download/{media}/other name.pdf")
    assert named.headers["content-disposition"] == 'attachment; filename="other name.pdf"'
    assert (await client.get(f"{V3}/download/{media}")).content == content
    assert (await client.get(f"/_matrix/media/r0/download/{media}/x")).content == content
    assert outcome(await client.get(f"{V1}/download/{media}")) == (401, "M_MISSING_TOKEN")
    size = {"m.upload.size": 3_000_000}
    assert (await get(client, login, "config")).json() == size
    assert (await client.get(f"{V3}/config", headers=bearing(login))).json() == size


async def test_only_harmless_types_are_shown_inline(client: AsyncClient, register: Register) -> None:
    login = await register()
    for content_type, kept, kind in (
        ("image/png", "image/png", "inline"),
        ("text/plain; charset=utf-8", "text/plain; charset=utf-8", "inline"),
        ("text/plain", "text/plain", "inline"),
        ("text/html", "text/html", "attachment"),
        ("image/svg+xml", "image/svg+xml", "attachment"),
        ("nonsense", "application/octet-stream", "attachment"),
        (None, "application/octet-stream", "attachment"),
    ):
        media = await upload(client, login, b"x", content_type)
        headers = (await get(client, login, f"download/{media}")).headers
        assert (headers["content-type"], headers["content-disposition"]) == (kept, kind), content_type


async def test_too_much_is_refused_declared_or_not(client: AsyncClient, register: Register) -> None:
    login = await register()

    async def chunks() -> Any:
        for _ in range(4):
            yield b"x" * 1_000_000

    for content in (b"x" * 3_000_001, chunks()):
        answer = await client.post(f"{V3}/upload", content=content, headers=bearing(login))
        assert outcome(answer) == (413, "M_TOO_LARGE")
    json = await client.post("/_matrix/client/v3/login", content=b"x" * 1_100_000)
    assert outcome(json) == (413, "M_TOO_LARGE")


async def test_content_may_come_after_its_uri(client: AsyncClient, register: Register, clock: FakeClock) -> None:
    login, bob = await register(), await register("bob")
    created = (await client.post("/_matrix/media/v1/create", headers=bearing(login))).json()
    media = created["content_uri"].removeprefix("mxc://")
    assert created["unused_expires_at"] == clock.now_ms() + 86_400_000
    early = await get(client, login, f"download/{media}", timeout_ms=0)
    assert outcome(early) == (504, "M_NOT_YET_UPLOADED")
    waiting = asyncio.create_task(get(client, login, f"download/{media}"))
    await asyncio.sleep(0.05)
    url, headers = f"{V3}/upload/{media}", {"content-type": "text/plain"}
    assert outcome(await client.put(url, content=b"x", headers=bearing(bob))) == (403, "M_FORBIDDEN")
    answer = await client.put(url, content=b"late", headers=bearing(login) | headers, params={"filename": "a"})
    assert (answer.status_code, answer.json()) == (200, {})
    assert (await waiting).content == b"late"
    again = await client.put(url, content=b"x", headers=bearing(login))
    assert outcome(again) == (409, "M_CANNOT_OVERWRITE_MEDIA")
    unknown = await client.put(f"{V3}/upload/hs.test/unknown", content=b"x", headers=bearing(login))
    assert outcome(unknown) == (404, "M_NOT_FOUND")

    created = (await client.post("/_matrix/media/v1/create", headers=bearing(login))).json()
    media = created["content_uri"].removeprefix("mxc://")
    clock.advance(hours=25)
    assert outcome(await client.put(f"{V3}/upload/{media}", content=b"x", headers=bearing(login)))[0] == 404
    assert outcome(await get(client, login, f"download/{media}")) == (404, "M_NOT_FOUND")


async def test_one_may_not_have_uris_without_end(client: AsyncClient, register: Register) -> None:
    login = await register()
    answers = [await client.post("/_matrix/media/v1/create", headers=bearing(login)) for _ in range(101)]
    assert [answer.status_code for answer in answers[-2:]] == [200, 429]


async def test_what_no_uri_can_name_is_not_found(client: AsyncClient, register: Register) -> None:
    login = await register()
    for path in ("hs.test/nothing", "hs.test/a.b", "[/abc", "a%00b/abc", "hs.test/%00"):
        for kind in ("download", "thumbnail"):
            answer = await get(client, login, f"{kind}/{path}", width=10, height=10)
            assert outcome(answer) == (404, "M_NOT_FOUND"), path


async def test_thumbnails_are_no_smaller_than_asked_for_and_no_larger_than_the_picture(
    client: AsyncClient, register: Register
) -> None:
    login = await register()
    media = await upload(client, login, picture(1000, 500), "image/png")
    for width, height, method, size in (
        (32, 32, "crop", (32, 32)),
        (20, 20, "crop", (32, 32)),
        (64, 96, "crop", (64, 96)),
        (320, 240, "scale", (480, 240)),
        (100, 100, "scale", (480, 240)),
        (800, 100, "scale", (1000, 500)),
        (2000, 2000, "scale", (1000, 500)),
        (2000, 100, "crop", (1000, 100)),
    ):
        query = {"width": width, "height": height, "method": method}
        for _ in range(2):  # made, and kept
            answer = await get(client, login, f"thumbnail/{media}", **query)
            assert opened(answer).size == size, query
        assert answer.headers["content-disposition"].startswith("inline")
        assert answer.headers["content-type"] in ("image/jpeg", "image/png")
    assert opened(await client.get(f"{V3}/thumbnail/{media}", params={"width": 32, "height": 32})).width == 480


async def test_a_thumbnail_moves_only_if_asked_to(client: AsyncClient, register: Register) -> None:
    login = await register()
    media = await upload(client, login, picture(200, 200, "GIF", frames=3), "image/gif")
    query = {"width": 96, "height": 96, "method": "crop"}
    still = opened(await get(client, login, f"thumbnail/{media}", **query))
    assert not getattr(still, "is_animated", False)
    moving = opened(await get(client, login, f"thumbnail/{media}", animated="true", **query))
    assert (moving.format, moving.size, moving.n_frames) == ("WEBP", (96, 96), 3)  # type: ignore[attr-defined]  # WebP's own
    large = {"width": 500, "height": 500}
    assert not getattr(opened(await get(client, login, f"thumbnail/{media}", **large)), "is_animated", False)
    assert opened(await get(client, login, f"thumbnail/{media}", animated="true", **large)).format == "GIF"


async def test_transparency_stays(client: AsyncClient, register: Register) -> None:
    login = await register()
    media = await upload(client, login, picture(300, 300, mode="RGBA"), "image/png")
    answer = await get(client, login, f"thumbnail/{media}", width=32, height=32, method="crop")
    assert (answer.headers["content-type"], opened(answer).mode) == ("image/png", "RGBA")


async def test_what_cannot_be_made_smaller_is_refused(client: AsyncClient, register: Register) -> None:
    login = await register()
    text = await upload(client, login, b"no picture", "image/png")
    bomb = await upload(client, login, picture(20_000, 3_000, mode="L"), "image/png")
    for media, query, expected in (
        (text, {"width": 32, "height": 32}, (400, "M_UNKNOWN")),
        (bomb, {"width": 32, "height": 32}, (413, "M_TOO_LARGE")),
        (bomb, {"width": -1, "height": 32}, (400, "M_INVALID_PARAM")),
        (bomb, {"width": "x", "height": 32}, (400, "M_INVALID_PARAM")),
        (bomb, {"width": 32}, (400, "M_MISSING_PARAM")),
        (bomb, {"width": 32, "height": 32, "method": "stretch"}, (400, "M_INVALID_PARAM")),
    ):
        assert outcome(await get(client, login, f"thumbnail/{media}", **query)) == expected, query


class TestWithoutOpenAccess:
    @pytest.fixture
    def homeserver(self) -> HomeserverSettings:
        return HomeserverSettings(
            name="hs.test", registration=True, unauthenticated_media=False, max_media_bytes_per_user=10
        )

    async def test_only_users_see_media(self, client: AsyncClient, register: Register) -> None:
        login = await register()
        media = await upload(client, login, picture(40, 40), "image/png")
        assert outcome(await client.get(f"{V3}/download/{media}")) == (404, "M_NOT_FOUND")
        assert (await get(client, login, f"download/{media}")).status_code == 200
        over = await client.post(f"{V3}/upload", content=b"x", headers=bearing(login))
        assert outcome(over) == (403, "M_FORBIDDEN")


# Other servers' media


class Others:
    """Stands for the calls to other servers: answers by path, and counts."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer | Exception] = {}
        self.asked: list[str] = []

    async def request(self, method: str, server_name: str, path: str = "", **more: Any) -> Answer:
        self.asked.append(path)
        answer = next((a for known, a in self.answers.items() if (path or server_name).startswith(known)), None)
        if answer is None:
            return Answer(404, {}, b'{"errcode": "M_UNRECOGNIZED"}')
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def others(state: dict[str, Any], clock: FakeClock) -> Others:
    others = Others()
    media = state["media"]
    calls: Any = others
    media._remote = RemoteMedia(state["resources"].database, media.files, calls, calls, clock, max_bytes=1000)
    return others


def handed(content: bytes, **headers: str) -> Answer:
    body = opening("bound", headers) + content + closing("bound")
    return Answer(200, {"content-type": 'multipart/mixed; boundary="bound"'}, body)


async def test_other_servers_media_is_fetched_once(client: AsyncClient, register: Register, others: Others) -> None:
    login = await register()
    content = b"\r\n--not the end\r\n\x00"
    headers = {"Content-Type": "text/plain", "Content-Disposition": "inline; filename*=utf-8''%E2%98%95.txt"}
    others.answers["/_matrix/federation/v1/media/download/abc"] = handed(content, **headers)
    answers = await asyncio.gather(*(get(client, login, "download/other.test/abc") for _ in range(3)))
    assert [answer.content for answer in answers] == [content] * 3
    assert answers[0].headers["content-disposition"] == "inline; filename*=utf-8''%E2%98%95.txt"
    assert (await client.get(f"{V3}/download/other.test/abc", params={"allow_remote": "false"})).status_code == 200
    assert len(others.asked) == 1


async def test_older_servers_are_asked_in_the_older_way(
    client: AsyncClient, register: Register, others: Others
) -> None:
    login = await register()
    legacy = Answer(200, {"content-type": "text/plain", "content-disposition": 'inline; filename="a b"'}, b"old")
    others.answers["/_matrix/media/v3/download/other.test/abc"] = legacy
    answer = await get(client, login, "download/other.test/abc")
    assert (answer.content, answer.headers["content-disposition"]) == (b"old", 'inline; filename="a b"')
    assert "allow_remote=false" in others.asked[-1]


async def test_a_server_may_say_where_the_content_is(client: AsyncClient, register: Register, others: Others) -> None:
    login = await register()
    others.answers["/_matrix/federation/v1/media/download/abc"] = handed(b"", Location="https://cdn.test/x")
    others.answers["https://cdn.test/x"] = Answer(200, {"content-type": "image/png"}, b"cdn")
    assert (await get(client, login, "download/other.test/abc")).content == b"cdn"


async def test_what_other_servers_refuse_is_said_in_our_words(
    client: AsyncClient, register: Register, others: Others
) -> None:
    login = await register()
    path = "/_matrix/federation/v1/media/download/abc"
    for answer, expected in (
        (Answer(404, {}, b'{"errcode": "M_NOT_FOUND"}'), (404, "M_NOT_FOUND")),
        (Answer(504, {}, b'{"errcode": "M_NOT_YET_UPLOADED"}'), (504, "M_NOT_YET_UPLOADED")),
        (Answer(500, {}, b"oops"), (502, "M_UNKNOWN")),
        (Answer(200, {"content-type": "text/plain"}, b"x"), (502, "M_UNKNOWN")),
        (Unreachable("away"), (502, "M_UNKNOWN")),
        (TooMuch("much"), (502, "M_TOO_LARGE")),
    ):
        others.answers[path] = answer
        assert outcome(await get(client, login, "download/other.test/abc")) == expected, answer
    not_here = await client.get(f"{V3}/download/other.test/abc", params={"allow_remote": "false"})
    assert outcome(not_here) == (404, "M_NOT_FOUND")


async def test_the_oldest_of_others_media_goes_when_there_is_too_much(
    client: AsyncClient, register: Register, others: Others, state: dict[str, Any], clock: FakeClock
) -> None:
    login = await register()
    for name in ("a", "b", "c"):
        others.answers[f"/_matrix/federation/v1/media/download/{name}"] = handed(b"x" * 400)
        await get(client, login, f"download/other.test/{name}")
        clock.advance(seconds=1)
    media = state["media"]
    media.settings = media.settings.model_copy(update={"max_remote_media_bytes": 900})
    await media.purge(clock.now_ms())
    assert not media.files.path(MediaKey("other.test", "a")).exists()
    assert media.files.path(MediaKey("other.test", "b")).exists()


class TestOnPostgreSQL:
    @pytest.fixture
    def engine(self) -> str:
        return "postgresql"

    test_late_content = staticmethod(test_content_may_come_after_its_uri)
    test_limits = staticmethod(test_one_may_not_have_uris_without_end)
    test_fetching = staticmethod(test_other_servers_media_is_fetched_once)
    test_purging = staticmethod(test_the_oldest_of_others_media_goes_when_there_is_too_much)


# The forms


@given(st.binary(max_size=200), st.dictionaries(st.sampled_from(["Content-Type", "X"]), st.just("text/plain")))
def test_what_is_framed_is_read_again(content: bytes, headers: dict[str, str]) -> None:
    framed = opening("b0und", headers) + content + closing("b0und")
    part = content_part("multipart/mixed; boundary=b0und", framed)
    assert part.content == content
    assert part.headers == {name.lower(): value for name, value in headers.items()}


@given(st.binary(max_size=100))
def test_nonsense_has_no_parts(body: bytes) -> None:
    with pytest.raises(Malformed):
        content_part("multipart/mixed; boundary=never-in-there", body)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=50))
def test_a_file_name_survives_its_header(name: str) -> None:
    header = disposition("inline", name)
    assert header.isascii()
    assert "\n" not in header
    assert file_name_in(header) == name
