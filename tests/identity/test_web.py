"""The pages that a link in a message opens, as a browser sees them."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, Literal

import pytest
from httpx import Response

from identity_server.identity.web.wording import WORDING, Medium, Reason
from tests.world import IdentityServer, MakeServer

V2 = "/_matrix/identity/v2"
MEDIA: list[Medium] = ["email", "msisdn"]
APP = "https://app.test"
HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&lt;{{ 7 * 7 }}"


@dataclass
class Page(HTMLParser):
    """What a browser would make of a page."""

    html: str
    tags: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def fields(self) -> dict[str, str]:
        return {str(each["name"]): str(each["value"]) for each in self.all("input")}


def says(answer: Response, reason: Reason, medium: Medium = "email") -> bool:
    """Whether ``answer`` is the page of that failure."""
    return WORDING["en"].failed[medium][reason].title in page_of(answer).text


def page_of(answer: Response) -> Page:
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return Page(answer.text)


async def begun(server: IdentityServer, medium: Medium = "email", **more: Any) -> dict[str, str]:
    """What the link in a message carries."""
    address = {"email": "alice@example.org"} if medium == "email" else {"country": "GB", "phone_number": "07700 900001"}
    answer = await server.client.post(
        f"{V2}/validate/{medium}/requestToken",
        json={"client_secret": "secret", "send_attempt": 1, **address, **more},
        headers=await server.account(),
    )
    assert answer.status_code == 200, answer.text
    return {
        "sid": answer.json()["sid"],
        "client_secret": "secret",
        "token": server.outlet.sent[-1].context["token"],
    }


async def opened(server: IdentityServer, link: dict[str, str], medium: str = "email") -> Response:
    return await server.client.get(f"{V2}/validate/{medium}/submitToken", params=link)


async def clicked(server: IdentityServer, answer: Response) -> Response:
    """The answer to the form of a page."""
    page = page_of(answer)
    (form,) = page.all("form")
    assert form["method"] == "post"
    return await server.client.post(str(form["action"]), data=page.fields)


async def is_validated(server: IdentityServer, link: dict[str, str]) -> bool:
    answer = await server.client.get(f"{V2}/3pid/getValidated3pid", params=link, headers=await server.account())
    return answer.status_code == 200


# The click


@pytest.mark.parametrize("medium", MEDIA)
async def test_opening_the_link_shows_a_page_and_the_click_on_it_counts(server: IdentityServer, medium: Medium) -> None:
    link = await begun(server, medium)
    for _ in range(2):
        answer = await opened(server, link, medium)
        assert answer.status_code == 200
        assert page_of(answer).fields == link
        assert not await is_validated(server, link)
    confirmed = await clicked(server, answer)
    assert confirmed.status_code == 200
    assert WORDING["en"].verified[medium].title in page_of(confirmed).text
    assert await is_validated(server, link)
    # An impatient reader clicks again.
    assert (await clicked(server, answer)).status_code == 200


async def test_the_mail_leads_to_the_page(server: IdentityServer) -> None:
    link = await begun(server)
    url = server.outlet.sent[-1].context["link"]
    assert url in server.outlet.sent[-1].text
    answer = await server.client.get(url)
    assert page_of(answer).fields == link
    await clicked(server, answer)
    assert await is_validated(server, link)


@pytest.mark.parametrize("medium", MEDIA)
async def test_without_confirmation_the_link_itself_counts(make_server: MakeServer, medium: Medium) -> None:
    async with make_server(validation={"confirm_links": False}) as server:
        link = await begun(server, medium)
        answer = await opened(server, link, medium)
        assert (answer.status_code, page_of(answer).all("form")) == (200, [])
        assert await is_validated(server, link)


# Where it leads on


@pytest.mark.parametrize("medium", MEDIA)
@pytest.mark.parametrize("confirm_links", [True, False])
async def test_afterwards_the_browser_is_sent_to_the_next_link(
    make_server: MakeServer, medium: Medium, confirm_links: bool
) -> None:
    async with make_server(validation={"confirm_links": confirm_links, "next_link_origins": [APP]}) as server:
        link = await begun(server, medium, next_link=f"{APP}/next?a=1&b=%20#/here")
        answer = await opened(server, link, medium)
        if confirm_links:
            # Browsers hold the redirect after a form to the policy of the page with the form.
            assert f"form-action 'self' {APP};" in answer.headers["content-security-policy"]
            answer = await clicked(server, answer)
        assert (answer.status_code, answer.headers["location"]) == (303, f"{APP}/next?a=1&b=%20#/here")
        # For browsers that do not go on by themselves.
        assert f"{APP}/next?a=1&b=%20#/here" in [each["href"] for each in page_of(answer).all("a")]
        assert await is_validated(server, link)


async def test_a_next_link_in_any_script_can_be_followed(make_server: MakeServer) -> None:
    async with make_server(validation={"next_link_origins": [APP]}) as server:
        link = await begun(server, next_link=f"{APP}/日本?q=é")
        answer = await clicked(server, await opened(server, link))
        assert (answer.status_code, answer.headers["location"]) == (303, f"{APP}/%E6%97%A5%E6%9C%AC?q=%C3%A9")


async def test_a_wrong_token_leads_nowhere(make_server: MakeServer) -> None:
    async with make_server(validation={"confirm_links": False, "next_link_origins": [APP]}) as server:
        link = await begun(server, next_link=f"{APP}/")
        answer = await opened(server, {**link, "token": "wrong"})
        assert (answer.status_code, "location" in answer.headers) == (400, False)
        assert APP not in answer.text


# What goes wrong


@pytest.mark.parametrize("medium", MEDIA)
async def test_each_failure_is_a_page_of_its_own(server: IdentityServer, medium: Medium) -> None:
    link = await begun(server, medium)
    another: Medium = "email" if medium == "msisdn" else "msisdn"

    async def failure(status: int, reason: Reason, medium: Medium = medium, **changed: str) -> bool:
        answer = await clicked(server, await opened(server, {**link, **changed}, medium))
        return answer.status_code == status and says(answer, reason, medium)

    assert await failure(400, "incorrect", token="wrong")
    assert await failure(404, "unknown", sid="unknown")
    assert await failure(404, "unknown", client_secret="wrong")
    assert await failure(404, "unknown", another)
    assert not await is_validated(server, link)
    server.clock.advance(hours=25)
    assert await failure(400, "expired")


@pytest.mark.parametrize("confirm_links", [True, False])
async def test_a_link_that_the_mail_program_broke_is_answered_by_a_page(
    make_server: MakeServer, confirm_links: bool
) -> None:
    async with make_server(validation={"confirm_links": confirm_links}) as server:
        link = await begun(server)
        for missing in link:
            answer = await opened(server, {name: value for name, value in link.items() if name != missing})
            assert (answer.status_code, says(answer, "unknown")) == (400, True)
        answer = await opened(server, {})
        assert (answer.status_code, says(answer, "unknown")) == (400, True)
        assert not await is_validated(server, link)


async def test_too_many_wrong_tokens_end_the_session_by_the_link_as_well(make_server: MakeServer) -> None:
    async with make_server(validation={"confirm_links": False, "max_wrong_tokens": 2}) as server:
        link = await begun(server)
        for _ in range(2):
            assert says(await opened(server, {**link, "token": "wrong"}), "incorrect")
        assert says(await opened(server, link), "expired")
        assert not await is_validated(server, link)


@pytest.mark.parametrize("body", [b"", b"sid=x", b"sid=%00&client_secret=s&token=t", b"\xff\xfe", b"a=b&" * 200, b"{}"])
async def test_a_form_that_is_not_ours_does_no_harm(server: IdentityServer, body: bytes) -> None:
    answer = await server.client.post("/_matrix/identity/io.identity_server/confirm/email", content=body)
    assert answer.status_code in (400, 404)
    assert says(answer, "unknown")


@pytest.mark.parametrize("medium", MEDIA)
@pytest.mark.parametrize("confirm_links", [True, False])
async def test_who_comes_too_often_is_told_by_a_page_to_wait(
    make_server: MakeServer, medium: Medium, confirm_links: bool
) -> None:
    limits = {"submit_token_per_source": "1/minute"}
    async with make_server(validation={"confirm_links": confirm_links}, rate_limits=limits) as server:
        link = await begun(server, medium)

        async def come(**changed: str) -> Response:
            answer = await opened(server, {**link, **changed}, medium)
            return await clicked(server, answer) if confirm_links else answer

        await come(token="wrong")
        answer = await come()
        assert (answer.status_code, says(answer, "too_often", medium)) == (429, True)
        assert 1 <= int(answer.headers["retry-after"]) <= 120
        assert not await is_validated(server, link)


# What keeps it safe


async def test_every_page_says_how_it_is_to_be_kept_and_shown(server: IdentityServer) -> None:
    link = await begun(server)
    confirm = await opened(server, link)
    failed = await clicked(server, await opened(server, {**link, "token": "wrong"}))
    verified = await clicked(server, confirm)
    for answer in (confirm, failed, verified):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "'unsafe-inline'" not in policy
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        # Whoever sees the page over a shoulder, or gets the link by mistake, does not learn whose it is.
        assert "alice@example.org" not in answer.text
        assert page_of(answer).all("script") == []


@pytest.mark.parametrize("medium", MEDIA)
@pytest.mark.parametrize("name", ["sid", "client_secret", "token"])
async def test_what_stands_in_a_link_is_never_taken_for_html(server: IdentityServer, name: str, medium: Medium) -> None:
    link = {"sid": "s", "client_secret": "c", "token": "t", name: HOSTILE}
    answer = await opened(server, link, medium)
    page = page_of(answer)
    assert page.fields == link
    assert (page.all("script"), page.all("img")) == ([], [])
    assert "49" not in page.text
    failed = page_of(await clicked(server, answer))
    assert (failed.all("script"), failed.all("img"), "alert" in failed.text) == ([], [], False)


async def test_what_stands_in_a_next_link_is_never_taken_for_html(make_server: MakeServer) -> None:
    next_link = f"{APP}/\"><script>alert(1)</script>?'onclick='alert(1)"
    async with make_server(validation={"next_link_origins": [APP]}) as server:
        answer = await clicked(server, await opened(server, await begun(server, next_link=next_link)))
        page = page_of(answer)
        assert page.all("script") == []
        assert next_link in [each["href"] for each in page.all("a")]
        assert all("onclick" not in attributes for _, attributes in page.tags)
        assert answer.headers["location"].startswith(f"{APP}/")


@pytest.mark.parametrize("value", ["a\0b", "\r\nX: y", "\ud800"])
async def test_strange_characters_in_a_link_do_no_harm(server: IdentityServer, value: str) -> None:
    query = "&".join(f"{name}={value}" for name in ("sid", "client_secret", "token"))
    encoded = query.encode("utf-8", "surrogatepass").replace(b"\0", b"%00").replace(b"\r\n", b"%0D%0A")
    answer = await server.client.get(f"{V2}/validate/email/submitToken?{encoded.decode('latin-1')}")
    assert answer.status_code in (200, 400, 404)
    assert "x" not in answer.headers


async def test_there_are_pages_for_known_media_only(server: IdentityServer) -> None:
    answer = await opened(server, {"sid": "s", "client_secret": "c", "token": "t"}, "smoke")
    assert (answer.status_code, answer.json()["errcode"]) == (404, "M_UNRECOGNIZED")


# Languages


@pytest.mark.parametrize(("accepted", "language"), [(None, "en"), ("fr-CA,fr;q=0.9,en;q=0.8", "fr"), ("de", "de")])
async def test_every_page_speaks_the_readers_language(
    make_server: MakeServer, accepted: str | None, language: Literal["en", "fr", "de"]
) -> None:
    async with make_server() as server:
        if accepted:
            server.client.headers["Accept-Language"] = accepted
        link = await begun(server)
        confirm = await opened(server, link)
        failed = await clicked(server, await opened(server, {**link, "token": "wrong"}))
        verified = await clicked(server, confirm)
    words = WORDING[language]
    for answer, title in (
        (confirm, words.confirm["email"].title),
        (failed, words.failed["email"]["incorrect"].title),
        (verified, words.verified["email"].title),
    ):
        page = page_of(answer)
        assert (page.all("html")[0]["lang"], title in page.text) == (language, True)
        assert answer.headers["vary"] == "Accept-Language"
