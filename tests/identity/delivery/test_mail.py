from email import message_from_bytes
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_server.identity.delivery.mail import Mail, Sender, compose, mail_domain, split_address

SENDER = Sender.parse("", "id.example.org")
NOW_MS = 1_700_000_000_000


def mail_to(recipient: str, subject: str = "Hello", sender: Sender = SENDER, html: str | None = "<p>Grüße</p>") -> Mail:
    return compose(sender, recipient, subject, "Grüße,\n\nsie gelten.\n", html, message_id="Xy7", now_ms=NOW_MS)


def read(mail: Mail) -> EmailMessage:
    message = message_from_bytes(mail.content, policy=SMTPUTF8)
    assert isinstance(message, EmailMessage)
    return message


def test_a_mail_says_who_when_and_that_a_machine_wrote_it() -> None:
    message = read(mail_to("alice@example.org", "Bestätige deine Adresse"))
    assert message["From"] == "noreply@id.example.org"
    assert message["To"] == "alice@example.org"
    assert message["Subject"] == "Bestätige deine Adresse"
    assert message["Date"] == "Tue, 14 Nov 2023 22:13:20 +0000"
    assert message["Message-ID"] == "<Xy7@id.example.org>"
    assert message["Auto-Submitted"] == "auto-generated"


def test_a_mail_has_a_text_and_an_html_body_the_better_one_last() -> None:
    message = read(mail_to("alice@example.org"))
    assert message.get_content_type() == "multipart/alternative"
    text, html = message.iter_parts()
    assert (text.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    assert text.get_content().replace("\r\n", "\n") == "Grüße,\n\nsie gelten.\n"
    assert "<p>Grüße</p>" in html.get_content()


def printable(longest: int) -> st.SearchStrategy[str]:
    return st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=longest)


@given(printable(64), printable(64))
def test_whoever_can_be_written_to_stands_in_the_mail_as_the_email_package_would_write_it(local: str, on: str) -> None:
    try:
        local_part, domain = split_address(f"{local}@{on}")
    except ValueError:
        return
    written = SMTP.fold("To", SMTP.header_factory("To", Address("", local_part, domain)))
    assert f"\r\n{written}".encode() in mail_to(f"{local}@{on}").content


def test_a_mail_without_html_is_plain() -> None:
    assert read(mail_to("alice@example.org", html=None)).get_content_type() == "text/plain"


def test_the_same_arguments_make_the_same_mail() -> None:
    assert mail_to("alice@example.org") == mail_to("alice@example.org")


def test_every_line_is_short_enough_and_ascii() -> None:
    mail = mail_to("alice@example.org", "ß" * 300, html="<p>" + "ü" * 5000 + "</p>")
    assert mail.content.isascii()
    assert max(map(len, mail.content.split(b"\r\n"))) <= 998
    assert b"\n" not in mail.content.replace(b"\r\n", b"")


@pytest.mark.parametrize(
    "subject", ["Hi\r\nBcc: eve@example.org", "Hi\nBcc: eve@example.org\n\nbody", "Hi\rX: y", "Hi\u2028Bcc: eve@e.org"]
)
def test_a_subject_cannot_bring_headers_of_its_own(subject: str) -> None:
    message = read(mail_to("alice@example.org", subject))
    assert message["Bcc"] is None
    assert message["X"] is None
    assert message["Subject"].startswith("Hi ")
    assert message.get_content_type() == "multipart/alternative"


@pytest.mark.parametrize(
    "recipient",
    [
        "alice@example.org\r\nBcc: eve@example.org",
        "alice@example.org\n",
        "alice@example.org, eve@example.org",
        "<alice@example.org>",
        "Alice <alice@example.org>",
        "alice@example.org> SIZE=1",
        "alice@eve@example.org",
        "alice\x00@example.org",
        "alice\u2028eve@example.org",
        "alice\x85eve@example.org",
        "alice\ud800@example.org",
        "alice@-\u00fc-.example",
        "alice",
        "@example.org",
        "alice@",
        "",
    ],
)
def test_what_is_not_one_bare_address_is_refused(recipient: str) -> None:
    with pytest.raises(ValueError):
        mail_to(recipient)


def test_a_configured_sender_may_have_a_name() -> None:
    sender = Sender.parse("Beispiel & Söhne <id@bücher.example>", "id.example.org")
    mail = mail_to("alice@example.org", sender=sender)
    message = read(mail)
    assert mail.sender == "id@xn--bcher-kva.example"
    assert message["From"].addresses[0].display_name == "Beispiel & Söhne"
    assert message["Message-ID"] == "<Xy7@xn--bcher-kva.example>"


@pytest.mark.parametrize("configured", ["nobody", "a@b@c", "<>", "Name <>"])
def test_an_unusable_sender_is_refused(configured: str) -> None:
    with pytest.raises(ValueError):
        Sender.parse(configured, "id.example.org")


@pytest.mark.parametrize(
    ("recipient", "needs_utf8"),
    [("alice@bücher.example", False), ("jürgen@example.org", True), ("alice@example.org", False)],
)
def test_only_international_local_parts_need_smtputf8(recipient: str, needs_utf8: bool) -> None:
    assert mail_to(recipient).needs_utf8 is needs_utf8


@pytest.mark.parametrize(
    ("server_name", "domain"),
    [
        ("id.example.org", "id.example.org"),
        ("id.example.org:8090", "id.example.org"),
        ("localhost", "localhost"),
        ("127.0.0.1:8090", "[127.0.0.1]"),
        ("[::1]:8090", "[IPv6:::1]"),
    ],
)
def test_a_server_name_becomes_the_domain_of_an_address(server_name: str, domain: str) -> None:
    assert mail_domain(server_name) == domain
    assert f"@{domain}" in read(mail_to("alice@example.org", sender=Sender.parse("", server_name)))["From"]
