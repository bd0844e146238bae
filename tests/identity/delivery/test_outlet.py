"""From a message's name to its arrival: templates, composition and transport together."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from prometheus_client import REGISTRY

from identity_server.identity.delivery.outlet import NetworkOutlet, RecordingOutlet, open_outlet
from identity_server.matrix.errors import DestinationRejected, EmailSendError, SendError
from identity_server.runtime.clock import FakeClock
from identity_server.runtime.tokens import FakeEntropy
from identity_server.settings import EmailSettings, ServerSettings, Settings, SmsRoute, SmsSettings
from tests.identity.delivery.conftest import StartMailServer
from tests.identity.delivery.test_sms import Gateway

pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

VERIFICATION = {
    "token": "kX3vQ9pLm2",
    "link": "https://is.test/submitToken?token=kX3vQ9pLm2",
    "lifetime_hours": 24,
    "lifetime_minutes": 0,
}
CODE = {"token": "123456", "domain": "is.test"}


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    gateway = Gateway()
    yield gateway
    gateway.stop()


def settings(smtp_url: str = "smtp://127.0.0.1:1", *, sms: SmsSettings | None = None, **email: Any) -> Settings:
    return Settings(
        server=ServerSettings(name="is.test:8090"),
        email=EmailSettings(smtp_url=smtp_url, timeout=3000, **email),
        sms=sms or SmsSettings(),
    )


def opened(configured: Settings) -> Any:
    return open_outlet(configured, FakeClock(), FakeEntropy())


def count(medium: str, outcome: str) -> float:
    labels = {"medium": medium, "outcome": outcome}
    return REGISTRY.get_sample_value("identity_server_messages_total", labels) or 0.0


async def test_a_verification_mail_arrives_in_the_readers_language(start_mail_server: StartMailServer) -> None:
    server = await start_mail_server()
    before = count("email", "sent")
    async with opened(settings(server.url(), sender="Example <noreply@example.test>")) as outlet:
        await outlet.send_email("alice@example.org", "verification", "fr-CA, en;q=0.5", VERIFICATION)
    (received,) = server.received
    mail = received.message
    assert (received.sender, received.recipient) == ("noreply@example.test", "alice@example.org")
    assert (mail["From"], mail["To"]) == ("Example <noreply@example.test>", "alice@example.org")
    assert mail["Subject"] == "Confirmez votre adresse e-mail"
    assert mail["Date"].datetime.timestamp() == 1_700_000_000
    assert mail["Message-ID"].endswith("@example.test>")
    assert mail["Auto-Submitted"] == "auto-generated"
    text, html = mail.iter_parts()
    assert (text.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    assert "is.test:8090 doit s’assurer" in text.get_content()
    assert "kX3vQ9pLm2" in html.get_content()
    assert count("email", "sent") == before + 1


async def test_without_a_configured_sender_mails_are_from_the_server_itself(start_mail_server: StartMailServer) -> None:
    server = await start_mail_server()
    async with opened(settings(server.url())) as outlet:
        await outlet.send_email("alice@example.org", "verification", None, VERIFICATION)
    assert server.received[0].sender == "noreply@is.test"


async def test_an_inviter_cannot_add_headers_lines_or_links(start_mail_server: StartMailServer) -> None:
    server = await start_mail_server()
    context = {
        "link": "https://app.test/#/room/x",
        "inviter_name": "Eve\r\nBcc: victim@example.org\r\n\r\n<a href='https://evil.test'>Click</a>",
        "room_name": "x\n.\nQUIT",
    }
    async with opened(settings(server.url())) as outlet:
        await outlet.send_email("alice@example.org", "invitation", "en", context)
    (received,) = server.received
    mail = received.message
    assert mail["Bcc"] is None
    assert mail["Subject"].startswith("Eve Bcc: victim@example·org")
    text, html = (part.get_content() for part in mail.iter_parts())
    assert "evil.test" not in text + html
    assert html.count("<a ") == 1


async def test_a_mail_without_html_is_sent_as_text(start_mail_server: StartMailServer, tmp_path: Path) -> None:
    (tmp_path / "it").mkdir()
    (tmp_path / "it" / "verification.txt").write_text("Subject: Conferma\n\nCodice: {{ token }}\n")
    server = await start_mail_server()
    async with opened(settings(server.url(), template_dir=tmp_path)) as outlet:
        await outlet.send_email("alice@example.org", "verification", "it", VERIFICATION)
    mail = server.received[0].message
    assert mail.get_content_type() == "text/plain"
    assert mail.get_content().strip() == "Codice: kX3vQ9pLm2"


async def test_a_refused_mail_is_counted_and_logged_without_the_address(start_mail_server: StartMailServer) -> None:
    server = await start_mail_server()
    server.refused = "alice@"
    before = count("email", "failed")
    async with opened(settings(server.url())) as outlet:
        with structlog.testing.capture_logs() as logs, pytest.raises(EmailSendError) as raised:
            await outlet.send_email("alice@example.org", "verification", "en", VERIFICATION)
    assert count("email", "failed") == before + 1
    (entry,) = [entry for entry in logs if entry["event"] == "message_not_sent"]
    assert entry["reply_code"] == 550
    assert "alice" not in str(logs) + str(raised.value)


@pytest.mark.parametrize("address", ["alice@xn--\u00e9.test", "alice@example.org\r\nRCPT TO:<eve@evil.test>", "nobody"])
async def test_an_impossible_address_is_an_error_and_nothing_is_sent(
    start_mail_server: StartMailServer, address: str
) -> None:
    server = await start_mail_server()
    async with opened(settings(server.url())) as outlet:
        with pytest.raises(EmailSendError):
            await outlet.send_email(address, "verification", "en", VERIFICATION)
    assert server.mail_commands == 0


async def test_a_broken_template_is_an_error_that_the_log_explains(tmp_path: Path) -> None:
    (tmp_path / "en").mkdir()
    for file in ("verification.txt", "verification.sms.txt"):
        (tmp_path / "en" / file).write_text("Subject: {{ misspelt }}")
    async with opened(settings(template_dir=tmp_path, sms=SmsSettings(routes=(SmsRoute(url="json://x"),)))) as outlet:
        with structlog.testing.capture_logs() as logs:
            with pytest.raises(EmailSendError):
                await outlet.send_email("alice@example.org", "verification", "en", VERIFICATION)
            with pytest.raises(SendError):
                await outlet.send_sms("491701234567", "verification", "en", CODE)
    assert ["'misspelt' is undefined" in entry["detail"] for entry in logs] == [True, True]


async def test_a_code_arrives_by_sms(gateway: Gateway) -> None:
    routes = SmsSettings(routes=(SmsRoute(url=f"json://{gateway.address}"),))
    async with opened(settings(sms=routes)) as outlet:
        await outlet.send_sms("491701234567", "verification", "de-AT", CODE)
    (payload,) = gateway.payloads
    assert payload["to"] == "+491701234567"
    assert str(payload["message"]).startswith("Ihr Bestätigungscode lautet 123456.")
    assert str(payload["message"]).endswith("\n@is.test #123456")


async def test_a_number_that_is_not_served_is_rejected_and_counted() -> None:
    before = count("msisdn", "rejected")
    async with opened(settings()) as outlet:
        with pytest.raises(DestinationRejected):
            await outlet.send_sms("491701234567", "verification", "en", CODE)
    assert count("msisdn", "rejected") == before + 1


@pytest.mark.parametrize(("key", "value"), [("smtp_url", "http://x"), ("sender", "nobody")])
async def test_unusable_settings_are_found_before_the_first_message(key: str, value: str) -> None:
    with pytest.raises(ValueError, match=r"email|address"):
        async with opened(settings(**{key: value})):
            pass


async def test_the_recording_outlet_keeps_what_would_have_left() -> None:
    outlet = RecordingOutlet()
    await outlet.send_email("alice@example.org", "verification", "de", VERIFICATION)
    await outlet.send_sms("491701234567", "verification", None, CODE)
    mail, sms = outlet.sent
    assert (mail.recipient, mail.subject) == ("alice@example.org", "Bitte bestätigen Sie Ihre E-Mail-Adresse")
    assert "kX3vQ9pLm2" in mail.text
    assert "kX3vQ9pLm2" in (mail.html or "")
    assert sms.text.endswith("@is.test #123456")
    outlet.failing = True
    with pytest.raises(EmailSendError):
        await outlet.send_email("alice@example.org", "verification", "de", VERIFICATION)
    with pytest.raises(SendError):
        await outlet.send_sms("491701234567", "verification", None, CODE)
    assert len(outlet.sent) == 2


def test_both_outlets_offer_the_same() -> None:
    offered = {name for name in vars(NetworkOutlet) if not name.startswith("_")}
    assert offered == {name for name in ("send_email", "send_sms") if hasattr(RecordingOutlet, name)}
