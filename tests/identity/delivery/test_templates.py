"""The words of a message: who reads them in which language, and what a stranger can make them say."""

from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import TemplateError

from identity_server.identity.delivery.templates import Templates, plain_name, preferred_language

LINK = "https://is.test/submitToken?token=abc&sid=1"
VERIFICATION = {
    "server_name": "is.test",
    "token": "kX3vQ9pLm2",
    "link": LINK,
    "lifetime_hours": 24,
    "lifetime_minutes": 0,
    "domain": "is.test",
}
INVITATION = {"server_name": "is.test", "link": LINK, "inviter_name": "Bob", "room_name": "Garden", "room_type": None}
# GSM 03.38: an SMS of other characters carries 70 of them instead of 160.
GSM = set("@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./:;<=>?¡ÄÖÑÜ§¿äöñüà") | {
    chr(code) for first, last in ("09", "AZ", "az") for code in range(ord(first), ord(last) + 1)
}


class Links(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.found += [value or "" for name, value in attributes if name in ("href", "src")]


@pytest.mark.parametrize("language", ["en", "fr", "de"])
def test_a_verification_mail_says_who_asks_and_shows_link_code_and_lifetime(language: str) -> None:
    mail = Templates().mail("verification", language, VERIFICATION)
    assert mail.html is not None
    for body in (mail.text, mail.html):
        assert "is.test" in body
        assert "kX3vQ9pLm2" in body
        assert "24" in body
    assert LINK in mail.text.splitlines()
    assert Links(mail.html).found == [LINK]
    assert f'<html lang="{language}"' in mail.html


@pytest.mark.parametrize("language", ["en", "fr", "de"])
def test_a_mail_fetches_nothing_from_anywhere(language: str) -> None:
    for message, context in (("verification", VERIFICATION), ("invitation", INVITATION)):
        html = Templates().mail(message, language, context).html or ""
        assert not Links(html).tags & {"img", "link", "script", "iframe", "object", "video"}
        assert "url(" not in html


@pytest.mark.parametrize("language", ["en", "fr", "de"])
def test_a_verification_sms_is_one_short_message_and_ends_in_the_webotp_line(language: str) -> None:
    text = Templates().sms("verification", language, {**VERIFICATION, "token": "123456"})
    assert text.splitlines()[-2:] == ["", "@is.test #123456"]
    assert "123456" in text.splitlines()[0]
    assert len(text) <= 160
    assert set(text) <= GSM


@pytest.mark.parametrize(
    ("language", "given", "subject"),
    [
        ("en", {"inviter_name": "Bob", "room_name": "Garden"}, "Bob has invited you to the room “Garden”"),
        ("en", {"inviter_name": "Bob"}, "Bob has invited you to a conversation"),
        ("en", {"room_name": "Garden"}, "You have been invited to the room “Garden”"),
        ("en", {"room_type": "m.space"}, "You have been invited to a space"),
        ("en", {}, "You have been invited to a conversation"),
        ("fr", {"inviter_name": "Bob", "room_name": "Jardin"}, "Bob vous invite à rejoindre le salon «\xa0Jardin\xa0»"),
        ("fr", {"room_type": "m.space"}, "On vous invite à rejoindre un espace"),
        ("de", {"inviter_name": "Bob", "room_name": "Garten"}, "Bob lädt Sie in den Raum „Garten“ ein"),
        ("de", {"room_name": "Garten", "room_type": "m.space"}, "Einladung in den Space „Garten“"),
    ],
)
def test_an_invitation_names_what_is_known(language: str, given: dict[str, str], subject: str) -> None:
    context = {"server_name": "is.test", "link": LINK, **given}
    mail = Templates().mail("invitation", language, context)
    assert mail.subject == subject
    assert LINK in mail.text
    assert Links(mail.html or "").found == [LINK]
    assert LINK in Templates().sms("invitation", language, context)


def test_names_are_escaped_in_html_and_only_there() -> None:
    mail = Templates().mail("invitation", "en", {**INVITATION, "inviter_name": "<b>Tom & Ann</b>"})
    assert "<b>Tom & Ann</b> has invited you" in mail.text
    assert mail.subject.startswith("<b>Tom & Ann</b>")
    assert "&lt;b&gt;Tom &amp; Ann&lt;/b&gt; has invited you" in (mail.html or "")


def test_a_name_cannot_run_code_in_a_template() -> None:
    mail = Templates().mail("invitation", "en", {**INVITATION, "room_name": "{{ 7 * 7 }}"})
    assert "“{{ 7 * 7 }}”" in mail.subject


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("Bob", "Bob"),
        ("  Bob \n\t the   Builder\r\n", "Bob the Builder"),
        ("Bob\r\nBcc: everyone@evil.test", "Bob Bcc: everyone@evil·test"),
        ("matrix.org community", "matrix·org community"),
        ("See https://evil.test/login now", "See evil·test/login now"),
        ("ht://tp://evil.test", "evil·test"),
        ("evil。test and evil．test", "evil·test and evil·test"),
        ("St. John. Etc.", "St. John. Etc."),
        ("ab\u202egnp.exe\u202c\x00\x1b[31m", "abgnp·exe[31m"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("👩‍👩‍👧 family", "👩‍👩‍👧 family"),
        ("lone \ud800 surrogate", "lone surrogate"),
        ("x" * 61, "x" * 59 + "…"),
        ("\u0000", ""),
    ],
)
def test_a_strangers_name_is_one_short_line_without_links(written: str, shown: str) -> None:
    assert plain_name(written) == shown


def test_an_operators_files_win_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "en").mkdir()
    (tmp_path / "en" / "verification.txt").write_text("Subject: Our own words\n\nCode: {{ token }}\n")
    (tmp_path / "layout.html").write_text("<h1>Our layout</h1>{% block message %}{% endblock %}")
    templates = Templates(tmp_path)
    mail = templates.mail("verification", "en", VERIFICATION)
    assert (mail.subject, mail.text) == ("Our own words", "Code: kX3vQ9pLm2\n")
    assert (mail.html or "").startswith("<h1>Our layout</h1>")
    assert templates.mail("verification", "fr", VERIFICATION).subject == "Confirmez votre adresse e-mail"


def test_an_operator_adds_a_language_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "pt-BR").mkdir()
    (tmp_path / "pt-BR" / "verification.txt").write_text("Subject: Confirme seu e-mail\n\n{{ link }}\n")
    templates = Templates(tmp_path)
    mail = templates.mail("verification", "pt", VERIFICATION)
    assert (mail.subject, mail.html) == ("Confirme seu e-mail", None)
    assert templates.mail("invitation", "pt-BR", INVITATION).subject.startswith("Bob has invited you")


def test_readers_of_no_known_language_get_the_servers(tmp_path: Path) -> None:
    assert Templates(language="de").mail("invitation", "ja", INVITATION).subject.startswith("Bob lädt Sie")
    assert Templates(language="de").mail("invitation", None, INVITATION).subject.startswith("Bob lädt Sie")
    assert Templates(language="tlh").mail("invitation", "ja", INVITATION).subject.startswith("Bob has invited")


@pytest.mark.parametrize(
    "language", ["../../etc", "/etc", "..", "en/../fr", "en\x00", "%2e%2e", "", "*", "-", "q=1", ";q=", "é" * 10_000]
)
def test_a_hostile_language_tag_reaches_no_file(language: str, tmp_path: Path) -> None:
    (tmp_path / "templates").mkdir()
    (tmp_path / "verification.txt").write_text("Subject: Outside\n\n")
    templates = Templates(tmp_path / "templates")
    assert templates.mail("verification", language, VERIFICATION).subject == "Confirm your email address"


@pytest.mark.parametrize(
    ("wanted", "language"),
    [
        ("fr", "fr"),
        ("fr-CA", "fr"),
        ("FR_be", "fr"),
        ("de-Latn-AT-1996", "de"),
        ("ja, fr;q=0.5, de;q=0.8", "de"),
        ("en;q=0, de;q=0.1", "de"),
        ("fr-CH, fr;q=0.9, en;q=0.8, de;q=0.7, *;q=0.5", "fr"),
        ("pt-PT, de", "pt-BR"),
        ("ja", None),
        ("*", None),
        ("", None),
        (None, None),
        ("de;q=nonsense", "de"),
    ],
)
def test_the_language_is_looked_up_as_http_asks_for_it(wanted: str | None, language: str | None) -> None:
    assert preferred_language(wanted, ["en", "fr", "de", "pt-BR"]) == language


def test_a_broken_template_is_an_error_and_found_beforehand(tmp_path: Path) -> None:
    assert Templates().problems() == []
    for language, text in (("it", "Subject: x\n\n{{ nobody_gave_this }}"), ("es", "No subject"), ("nl", "{% if")):
        (tmp_path / language).mkdir()
        (tmp_path / language / "verification.txt").write_text(text)
    templates = Templates(tmp_path)
    assert len(templates.problems()) == 3
    with pytest.raises(TemplateError):
        templates.mail("verification", "it", VERIFICATION)
    with pytest.raises(ValueError, match="Subject"):
        templates.mail("verification", "es", VERIFICATION)


def test_an_operators_template_cannot_leave_the_sandbox(tmp_path: Path) -> None:
    (tmp_path / "en").mkdir()
    (tmp_path / "en" / "verification.txt").write_text("Subject: {{ token.__class__.__mro__ }}\n")
    with pytest.raises(TemplateError):
        Templates(tmp_path).mail("verification", "en", VERIFICATION)
