"""Previews of pages, from a web that tests make up."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from httpx import AsyncClient, Response

from identity_server.homeserver.media.open_graph import properties_of
from identity_server.homeserver.media.previews import Previews
from identity_server.matrix.http import Answer, Endpoint, Unreachable
from identity_server.runtime.clock import FakeClock
from tests.homeserver.conftest import Register, bearing
from tests.homeserver.test_accounts import outcome
from tests.homeserver.test_media import picture

PAGE = b"""<!DOCTYPE html><html prefix="og: http://ogp.me/ns#"><head>
<script>document.write("<title>no</title>")</script>
<title>The Rock (1996)</title><meta name="description" content="An island &amp; a&#10;prison">
<meta property="og:title" content="The Rock" /><meta property="og:type" content="video.movie" />
<meta property="og:image" content="rock.png"><meta property="og:image:width" content="9999"></head><h1>x</h1>"""


@pytest.fixture
def engine() -> str:
    return "sqlite"


class Web:
    def __init__(self) -> None:
        self.pages: dict[str, tuple[str, bytes]] = {}
        self.asked: list[str] = []

    async def request(self, method: str, target: Endpoint | str, *_: Any, **__: Any) -> Answer:
        assert isinstance(target, str)
        assert method == "GET"
        self.asked.append(target)
        await asyncio.sleep(0)
        if target not in self.pages:
            raise Unreachable("nobody answers")
        kind, body = self.pages[target]
        headers: Mapping[str, str] = {"content-type": kind}
        return Answer(200, headers, body)


@pytest.fixture
def web(state: dict[str, Any], clock: FakeClock) -> Web:
    web = Web()
    state["previews"] = Previews(web, state["media"], clock)
    return web


async def preview(client: AsyncClient, login: dict[str, Any], url: str) -> Response:
    return await client.get("/_matrix/client/v1/media/preview_url", params={"url": url}, headers=bearing(login))


async def test_a_page_is_previewed_with_a_copy_of_its_picture(
    client: AsyncClient, register: Register, web: Web, clock: FakeClock
) -> None:
    alice, image = await register("alice"), picture(279, 129)
    web.pages = {
        "https://films.test/a/": ("text/html; charset=utf-8", PAGE),
        "https://films.test/a/rock.png": ("image/png", image),
        "https://films.test/text": ("text/plain", b"<title>no</title>"),
    }
    shown = (await preview(client, alice, "https://films.test/a/")).json()
    uri = shown.pop("og:image").removeprefix("mxc://")
    assert shown == {
        "og:title": "The Rock",
        "og:type": "video.movie",
        "og:description": "An island & a prison",
        "og:image:type": "image/png",
        "og:image:width": 279,
        "og:image:height": 129,
        "matrix:image:size": len(image),
    }
    copied = await client.get(f"/_matrix/client/v1/media/download/{uri}", headers=bearing(alice))
    assert (copied.content, copied.headers["content-type"]) == (image, "image/png")

    again = await client.get(
        "/_matrix/media/v3/preview_url", params={"url": "https://films.test/a/"}, headers=bearing(alice)
    )
    assert again.json()["og:image"] == f"mxc://{uri}"
    assert len(web.asked) == 2
    clock.advance(seconds=3601)
    del web.pages["https://films.test/a/rock.png"]
    later = (await preview(client, alice, "https://films.test/a/")).json()
    assert (later["og:title"], [name for name in later if "image" in name]) == ("The Rock", [])
    assert (await preview(client, alice, "https://films.test/text")).json() == {}


async def test_what_is_no_page_has_no_preview(client: AsyncClient, register: Register, web: Web) -> None:
    alice = await register("alice")
    for url in (
        "",
        "films.test",
        "ftp://films.test/",
        "https://",
        "https://a:b@films.test/",
        "http://a:x/",
        "http://[/",
    ):
        assert outcome(await preview(client, alice, url)) == (400, "M_INVALID_PARAM"), url
    assert outcome(await preview(client, alice, "https://nobody.test/")) == (502, "M_UNKNOWN")
    assert web.asked == ["https://nobody.test/"]


async def test_the_real_client_reaches_no_private_network(client: AsyncClient, register: Register) -> None:
    alice = await register("alice")
    for url in ("http://127.0.0.1:1/", "http://[::1]/", "http://169.254.169.254/latest/meta-data"):
        assert outcome(await preview(client, alice, url)) == (502, "M_UNKNOWN"), url


@pytest.mark.parametrize(
    ("page", "content_type", "found"),
    [
        (b"<h1>Head</h1>", "text/html", {"og:title": "Head"}),
        ("<title>é</title>".encode("latin-1"), "text/html; charset=ISO-8859-1", {"og:title": "é"}),
        ('<meta charset="shift_jis"><title>日</title>'.encode("shift_jis"), "text/html", {"og:title": "日"}),
        (b"<title>\xff</title>", "text/html; charset=nonsense", {"og:title": "\ufffd"}),
        (b'<meta property="og:title" content=""><title> </title><h1', "text/html", {}),
        (b"<" * 100_000 + b"<a " * 100_000 + b"<!--" * 10_000, "text/html", {}),
    ],
)
def test_pages_are_read_whatever_they_are(page: bytes, content_type: str, found: dict[str, str]) -> None:
    assert properties_of(page, content_type) == found
