"""The pages behind the link in a message, in a real browser."""

import pytest

from identity_server.identity.web.pages import confirm_page, failed_page, page_headers, verified_page
from tests.browser.conftest import Site, View, check_accessibility, check_layout, picture

SERVER = "id.example.org"
LONG_SERVER = "identity-server-of-a-quite-long-name.department.university.example.org"
FIELDS = {"sid": "1f4e", "client_secret": "s3cr<e>t\"'&", "token": "7Qx"}


def confirm(medium: str, language: str, server_name: str = SERVER) -> str:
    return confirm_page(
        server_name=server_name, medium=medium, action="/submit", fields=FIELDS, accept_language=language
    )


def verified(medium: str, language: str, next_link: str | None) -> str:
    return verified_page(server_name=SERVER, medium=medium, next_link=next_link, accept_language=language)


PAGES = {
    "confirm-email-en": confirm("email", "en"),
    "confirm-email-fr": confirm("email", "fr"),
    "confirm-msisdn-de": confirm("msisdn", "de"),
    "confirm-long-name": confirm("email", "en", LONG_SERVER),
    "verified-email-en": verified("email", "en", "https://app.example.com/welcome?step=2"),
    "verified-email-app": verified("email", "en", "io.example.app:/verified"),
    "verified-msisdn-de": verified("msisdn", "de", None),
    "failed-incorrect-msisdn-fr": failed_page(
        server_name=SERVER, medium="msisdn", reason="incorrect", accept_language="fr"
    ),
    "failed-expired-email-en": failed_page(server_name=SERVER, medium="email", reason="expired", accept_language="en"),
    "failed-unknown-email-de": failed_page(server_name=SERVER, medium="email", reason="unknown", accept_language="de"),
}


@pytest.fixture(params=PAGES)
def name(request: pytest.FixtureRequest, site: Site) -> str:
    """Every page in turn, served under its name."""
    for path, document in PAGES.items():
        site.documents[f"/{path}"] = (document, page_headers())
    return str(request.param)


def test_a_page_fits_the_screen_without_javascript_and_its_button_is_in_reach(
    name: str, site: Site, view: View
) -> None:
    with view.visit(f"{site.url}/{name}") as page:
        check_layout(page)
        picture(page, f"{name}-{view.name}")
        for button in page.locator("main button, main a").all():
            box = button.bounding_box()
            assert box is not None
            assert box["height"] >= 44  # CSS pixels: room for a thumb
            assert box["y"] + box["height"] <= page.viewport_size["height"]
            page.keyboard.press("Tab")
            assert button.evaluate("button => button === document.activeElement")
            assert button.evaluate("button => getComputedStyle(button).outlineStyle") == "solid"


def test_a_page_has_no_accessibility_violations(name: str, site: Site, view: View) -> None:
    with view.visit(f"{site.url}/{name}", javascript=True) as page:
        check_accessibility(page)


def test_one_click_sends_the_fields_and_shows_the_answer(site: Site, view: View) -> None:
    site.documents["/confirm"] = (confirm("email", "en"), page_headers())
    site.documents["/submit"] = (verified("email", "en", None), page_headers())
    with view.visit(f"{site.url}/confirm") as page:
        page.get_by_role("button", name="Confirm email address").click()
        page.wait_for_url(f"{site.url}/submit")
        assert page.get_by_role("heading", level=1).inner_text() == "Email address confirmed"
    assert site.posted == [("/submit", {name: [value] for name, value in FIELDS.items()})]
