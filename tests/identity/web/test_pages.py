"""What the pages hold, and what their headers allow. How they look is for the browser tests."""

import re
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from typing import get_args

import pytest

from identity_server.identity.web.pages import confirm_page, failed_page, page_headers, verified_page
from identity_server.identity.web.wording import WORDING, Medium, Reason

SERVER = "id.example.org"


def every_page(language: str) -> Iterator[str]:
    for medium in get_args(Medium):
        about = {"server_name": SERVER, "medium": medium, "accept_language": language}
        yield confirm_page(action="/submit", fields={"token": "7Qx"}, **about)
        yield verified_page(next_link=None, **about)
        yield verified_page(next_link="https://app.example/", **about)
        for reason in get_args(Reason):
            yield failed_page(reason=reason, **about)


@pytest.mark.parametrize("language", tuple(WORDING))
def test_every_page_exists_in_every_language_and_names_the_server(language: str) -> None:
    for page in every_page(language):
        assert f'<html lang="{language}">' in page
        assert SERVER in page
        assert not re.search(r"\{(server|host)\}", page)


def test_the_policy_admits_the_style_of_every_page_and_nothing_else() -> None:
    policy = page_headers()["Content-Security-Policy"].split("; ")
    for page in every_page("en"):
        (style,) = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
        assert f"style-src 'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'" in policy
        assert not re.search(r"\sstyle=|<script|<link|<img|\ssrc=", page)
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "base-uri 'none'" in policy


@pytest.mark.parametrize(
    ("target", "source"),
    [
        ("https://app.example", "https://app.example"),
        ("https://user:secret@app.example:8443/path?query#fragment", "https://app.example:8443"),
        ("http://bücher.example/", "http://xn--bcher-kva.example"),
        ("io.example.app:/verified", "io.example.app:"),
    ],
)
def test_the_form_may_lead_to_the_origin_of_a_target(target: str, source: str) -> None:
    assert f"; form-action 'self' {source};" in page_headers([target])["Content-Security-Policy"]


@pytest.mark.parametrize(
    "target",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "https://a.example; script-src *",
        "https://*",
        "https://[::1]/",
        "https://a.example:x",
        "//a",
        "",
        "https://",
        "http://" + "a" * 70 + ".example",
    ],
)
def test_what_a_policy_must_not_hold_is_left_out(target: str) -> None:
    assert "; form-action 'self';" in page_headers([target])["Content-Security-Policy"]


def test_what_comes_from_outside_is_escaped() -> None:
    evil = "\"><script>alert('x')</script>{server}"
    for page in (
        confirm_page(server_name=evil, medium="email", action=evil, fields={evil: evil}, accept_language=evil),
        verified_page(server_name=evil, medium="email", next_link=f"https://a/{evil}", accept_language=None),
        failed_page(server_name=evil, medium="msisdn", reason="unknown", accept_language=None),
    ):
        assert "<script" not in page


@pytest.mark.parametrize("next_link", ["javascript:alert(1)", "JavaScript:alert(1)", "data:text/html,x"])
def test_a_link_that_is_code_gets_no_button(next_link: str) -> None:
    page = verified_page(server_name=SERVER, medium="email", next_link=next_link, accept_language=None)
    assert "<a " not in page


def test_a_medium_without_pages_is_refused() -> None:
    with pytest.raises(ValueError, match="social"):
        failed_page(server_name=SERVER, medium="social", reason="expired", accept_language=None)
