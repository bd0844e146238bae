"""The demo's inbox, in a real browser."""

import pytest
from playwright.sync_api import Page, expect

from identity_server.demo.pages.inbox import Exchange, Message, Step, inbox_headers, inbox_page
from identity_server.identity.web.pages import confirm_page, page_headers
from tests.browser.conftest import Site, View, check_accessibility, check_layout, picture

MAIL = """<!doctype html>
<html lang="en">
<head><meta name="color-scheme" content="light dark"><style>
:root { color-scheme: light dark; }
body { font: 16px/1.6 sans-serif; margin: 24px; }
a { display: inline-block; padding: 12px 24px; border-radius: 10px; background: #0b6650; color: #fff; }
</style></head>
<body><h1>Confirm your email address</h1><p>Somebody asked us to check that this address is yours.</p>
<p><a href="/confirm">Confirm email address</a></p></body></html>"""
MESSAGES = [
    Message(
        id="mail-1",
        medium="email",
        sender="Identity server <no-reply@id.localhost>",
        recipient="alice@mail.localhost",
        subject="Confirm your email address",
        text="Somebody asked us to check that this address is yours.\n\nTo confirm it, open\n"
        "http://127.0.0.1:8090/_matrix/identity/v2/validate/email/submitToken?sid=1&client_secret=2&token="
        "mLkzT1AqvK3YbXw0nUo9PzR7eWcDsHfJ\n\nIf you did not ask for this, you can ignore this mail.\n",
        html=MAIL,
        received_ts=1_795_428_000_000,
    ),
    Message(
        id="mail-2",
        medium="email",
        sender="no-reply@id.localhost",
        recipient="a-rather-long-address-for-an-inbox@subdomain.of.mail.localhost",
        subject="Alice has invited you to “Garden & greenhouse”, a room for everyone who grows tomatoes",
        text="Alice has invited you to a room on Matrix.",
        html=None,
        received_ts=1_795_428_030_000,
    ),
    Message(
        id="sms/3",
        medium="msisdn",
        sender="IdServer",
        recipient="+44 20 7946 0958",
        subject="",
        text="Your code is 428913. Or open http://127.0.0.1:8090/c/428913\n\n@id.localhost #428913",
        html=None,
        received_ts=1_795_428_060_000,
    ),
]
TOKEN = "syt_" + "Qm9iIGlzIG5vdCBhIHNlY3JldCBidXQgdGhpcyBpcyBsb25n" * 3
STEPS = [
    Step(
        "Register Alice and Bob at the homeserver",
        "done",
        [
            Exchange("POST", "/_matrix/client/v3/register", 401, {"username": "alice"}, {"flows": [], "session": "x"}),
            Exchange("POST", "/_matrix/client/v3/register", 200, {"username": "alice"}, {"access_token": TOKEN}),
        ],
    ),
    Step(
        "Ask the identity server to verify an email address",
        "done",
        [
            Exchange(
                "POST",
                "/_matrix/identity/v2/validate/email/requestToken",
                200,
                {"client_secret": "monkeys_are_GREAT", "email": "alice@mail.localhost", "send_attempt": 1},
                {"sid": "123abc"},
            )
        ],
    ),
    Step("Open the link in the mail", "running", [Exchange("GET", "/_matrix/…/submitToken", 200, None, None)]),
    Step(
        "Look the address up, hashed, as Bob",
        "failed",
        [
            Exchange(
                "POST",
                "/_matrix/identity/v2/lookup",
                400,
                {"addresses": ["4kenr7N9drpCJ4AfalmlGQVsOn3o2RHjkADUpXJWZUc"], "algorithm": "sha256", "pepper": "old"},
                {"errcode": "M_INVALID_PEPPER", "error": "Unknown or invalid pepper", "lookup_pepper": "matrixrocks"},
            )
        ],
    ),
    Step("Unbind it again", "waiting", []),
]
LINKS = {"API docs": "http://127.0.0.1:8090/docs", "Homeserver": "http://127.0.0.1:8008/"}
PAGES = {
    "inbox": (MESSAGES, None),
    "inbox-mail": (MESSAGES, "mail-1"),
    "inbox-sms": (MESSAGES, "sms/3"),
    "inbox-empty": ([], None),
}


@pytest.fixture(params=PAGES)
def name(request: pytest.FixtureRequest, site: Site) -> str:
    """The inbox with and without messages and a selection, served under its name."""
    for path, (messages, selected_id) in PAGES.items():
        document = inbox_page(messages, selected_id, STEPS if messages else [], LINKS)
        site.documents[f"/{path}"] = (document, inbox_headers())
    return str(request.param)


@pytest.fixture
def inbox(site: Site) -> str:
    """The URL of an inbox whose links work."""
    site.documents["/?"] = site.documents["/"] = (inbox_page(MESSAGES, None, STEPS, LINKS), inbox_headers())
    for message, query in zip(MESSAGES, ["mail-1", "mail-2", "sms/3"], strict=True):
        site.documents[f"/?message={query}"] = (inbox_page(MESSAGES, message.id, STEPS, LINKS), inbox_headers())
    confirm = confirm_page(
        server_name="id.localhost", medium="email", action="/submit", fields={"token": "7Qx"}, accept_language=None
    )
    site.documents["/confirm"] = site.documents["/submit"] = (confirm, page_headers())
    return f"{site.url}/"


def open_every_step(page: Page) -> None:
    for step in page.locator("details").all():
        if step.get_attribute("open") is None:
            step.locator("summary").press("Enter")
            expect(step).to_have_attribute("open", "")


def test_the_inbox_fits_the_screen_without_javascript(name: str, site: Site, view: View) -> None:
    with view.visit(f"{site.url}/{name}") as page:
        check_layout(page)
        picture(page, f"{name}-{view.name}")


def test_the_tour_fits_the_screen_with_every_step_open(site: Site, view: View, inbox: str) -> None:
    with view.visit(inbox) as page:
        open_every_step(page)
        check_layout(page)
        picture(page, f"inbox-tour-{view.name}")


def test_the_inbox_has_no_accessibility_violations(name: str, site: Site, view: View) -> None:
    with view.visit(f"{site.url}/{name}", javascript=True) as page:
        open_every_step(page)
        check_accessibility(page)


def test_every_message_can_be_opened_from_the_list_and_left_again(view: View, inbox: str) -> None:
    with view.visit(inbox) as page:
        for recipient in [message.recipient for message in MESSAGES]:
            page.get_by_role("link", name=recipient).click()
            assert page.get_by_role("article").get_by_text(recipient).is_visible()
            if view.screen == "phone":
                assert not page.get_by_role("navigation", name="Messages").is_visible()
                page.get_by_role("link", name="All messages").click()
                assert page.get_by_role("navigation", name="Messages").is_visible()


def test_a_mail_shows_as_designed_and_as_plain_text(view: View, inbox: str) -> None:
    with view.visit(f"{inbox}?message=mail-1") as page:
        designed = page.frame_locator("iframe").get_by_role("heading", name="Confirm your email address")
        plain = page.get_by_text("you can ignore this mail")
        assert designed.is_visible()
        assert not plain.is_visible()
        page.get_by_label("As plain text").check()
        assert plain.is_visible()
        assert not page.locator("iframe").is_visible()
        page.get_by_label("As designed").check()
        assert designed.is_visible()


def test_the_link_in_a_mail_opens_the_confirmation_page_whose_button_works(site: Site, view: View, inbox: str) -> None:
    with view.visit(f"{inbox}?message=mail-1") as page:
        with page.expect_popup() as opened:
            page.frame_locator("iframe").get_by_role("link", name="Confirm email address").click()
        confirmation = opened.value
        confirmation.get_by_role("button", name="Confirm email address").click()
        confirmation.wait_for_url(f"{site.url}/submit")
    assert site.posted == [("/submit", {"token": ["7Qx"]})]


def test_what_a_message_holds_cannot_run_in_the_inbox(site: Site, view: View) -> None:
    script = "<script>parent.document.title = 'taken'</script>"
    hostile = Message("1", "email", script, script, script, script, f'"><p>Hello</p>{script}', 0)
    step = Step(script, "done", [Exchange("GET", script, 200, {"a": script}, {"b": script})])
    site.documents["/hostile"] = (inbox_page([hostile], "1", [step], {script: "/"}), inbox_headers())
    blocked = (
        "Blocked script execution in 'about:srcdoc' because the document's frame is sandboxed "
        "and the 'allow-scripts' permission is not set."
    )
    with view.visit(f"{site.url}/hostile", complaints=[blocked]) as page:
        assert page.title() == f"{script} · Inbox of the demo"
        assert page.get_by_role("article").get_by_role("heading").inner_text() == script
        assert page.locator("script").count() == 0
