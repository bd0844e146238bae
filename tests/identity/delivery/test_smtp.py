import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from identity_server.identity.delivery.mail import Mail, Sender, compose
from identity_server.identity.delivery.smtp import SmtpConnections, SmtpServer
from identity_server.matrix.errors import EmailSendError
from tests.identity.delivery.conftest import MailServer, StartMailServer

SENDER = Sender.parse("", "id.example.org")


def mail_to(recipient: str) -> Mail:
    return compose(SENDER, recipient, "Hello", "text", "<p>html</p>", message_id="abc", now_ms=1_700_000_000_000)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


def connect(
    stack: AsyncExitStack,
    server: MailServer,
    url: str = "",
    *,
    timeout_ms: int = 5_000,
    max_connections: int = 4,
    ca_file: Path | None = None,
) -> SmtpConnections:
    smtp = SmtpConnections(
        SmtpServer.parse(url or server.url()),
        ehlo_name="id.example.org",
        timeout_ms=timeout_ms,
        max_connections=max_connections,
        ca_file=ca_file,
    )
    stack.push_async_callback(smtp.aclose)
    return smtp


async def until_closed(server: MailServer) -> None:
    """Wait until every connection that the server has seen is closed on its side."""
    for _ in range(200):
        if all(transport.is_closing() for transport in server.connections):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("a connection stayed open")


# What leaves, and over what


async def test_a_mail_reaches_a_plain_server(start_mail_server: StartMailServer, stack: AsyncExitStack) -> None:
    server = await start_mail_server()
    smtp = connect(stack, server)
    await smtp.deliver(mail_to("alice@example.org"))
    [received] = server.received
    assert (received.sender, received.recipient) == ("noreply@id.example.org", "alice@example.org")
    assert not received.encrypted


async def test_starttls_is_taken_when_it_is_offered_even_with_an_unknown_certificate(
    start_mail_server: StartMailServer, stack: AsyncExitStack
) -> None:
    server = await start_mail_server(starttls=True)
    smtp = connect(stack, server)
    await smtp.deliver(mail_to("alice@example.org"))
    assert server.received[0].encrypted


async def test_required_starttls_accepts_a_valid_certificate(
    start_mail_server: StartMailServer, stack: AsyncExitStack, ca_file: Path
) -> None:
    server = await start_mail_server(starttls=True)
    smtp = connect(stack, server, server.url().replace("smtp:", "smtp+starttls:"), ca_file=ca_file)
    await smtp.deliver(mail_to("alice@example.org"))
    assert server.received[0].encrypted


@pytest.mark.parametrize("offered", [True, False])
async def test_required_starttls_refuses_an_unknown_certificate_and_a_server_without_it(
    start_mail_server: StartMailServer, stack: AsyncExitStack, offered: bool
) -> None:
    server = await start_mail_server(starttls=offered)
    smtp = connect(stack, server, server.url().replace("smtp:", "smtp+starttls:"))
    with pytest.raises(EmailSendError):
        await smtp.deliver(mail_to("alice@example.org"))
    assert server.mail_commands == 0


async def test_smtps_is_encrypted_from_the_first_byte(
    start_mail_server: StartMailServer, stack: AsyncExitStack, ca_file: Path
) -> None:
    server = await start_mail_server(tls=True)
    smtp = connect(stack, server, ca_file=ca_file)
    await smtp.deliver(mail_to("alice@example.org"))
    await smtp.deliver(mail_to("bob@example.org"))
    assert [received.encrypted for received in server.received] == [True, True]
    assert len(server.connections) == 1


async def test_smtps_refuses_an_unknown_certificate(start_mail_server: StartMailServer, stack: AsyncExitStack) -> None:
    server = await start_mail_server(tls=True)
    smtp = connect(stack, server)
    with pytest.raises(EmailSendError):
        await smtp.deliver(mail_to("alice@example.org"))


async def test_the_url_carries_percent_encoded_credentials(
    start_mail_server: StartMailServer, stack: AsyncExitStack, ca_file: Path
) -> None:
    server = await start_mail_server(tls=True, auth=True)
    smtp = connect(stack, server, server.url("alice%40example.org:p%40ss%2Fword@"), ca_file=ca_file)
    await smtp.deliver(mail_to("alice@example.org"))
    assert server.logins == [("alice@example.org", "p@ss/word")]
    assert server.received[0].username == "alice@example.org"


async def test_a_wrong_password_is_an_error(start_mail_server: StartMailServer, stack: AsyncExitStack) -> None:
    server = await start_mail_server(auth=True)
    smtp = connect(stack, server, server.url("alice:wrong@"))
    with pytest.raises(EmailSendError):
        await smtp.deliver(mail_to("alice@example.org"))
    assert not server.received


async def test_a_password_may_travel_in_the_clear_on_this_machine_only(
    start_mail_server: StartMailServer, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start_mail_server(auth=True)
    smtp = connect(stack, server, server.url("alice:p%40ss%2Fword@"))
    await smtp.deliver(mail_to("alice@example.org"))
    assert len(server.logins) == 1

    # The same server, as if it were elsewhere: tests cannot leave loopback.
    monkeypatch.setattr("identity_server.identity.delivery.smtp._is_loopback", lambda peer: False)
    elsewhere = connect(stack, server, server.url("alice:p%40ss%2Fword@"))
    with pytest.raises(EmailSendError):
        await elsewhere.deliver(mail_to("alice@example.org"))
    assert len(server.logins) == 1


async def test_a_password_is_not_given_to_a_server_with_an_unknown_certificate(
    start_mail_server: StartMailServer, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch, ca_file: Path
) -> None:
    server = await start_mail_server(auth=True, starttls=True)
    monkeypatch.setattr("identity_server.identity.delivery.smtp._is_loopback", lambda peer: False)
    url = server.url("alice:p%40ss%2Fword@")
    untrusting = connect(stack, server, url)
    with pytest.raises(EmailSendError):
        await untrusting.deliver(mail_to("alice@example.org"))
    assert not server.logins
    trusting = connect(stack, server, url, ca_file=ca_file)
    await trusting.deliver(mail_to("alice@example.org"))
    assert server.received[0].encrypted


@pytest.mark.parametrize("url", ["http://localhost", "smtp://", "localhost:25", "smtp://user:secret@host:port"])
def test_a_url_that_is_none_of_ours_is_refused_without_repeating_its_password(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        SmtpServer.parse(url)
    assert "secret" not in str(caught.value)


def test_each_scheme_has_its_usual_port() -> None:
    ports = [SmtpServer.parse(url).port for url in ("smtp://h", "smtp+starttls://h", "smtps://h", "smtp://[::1]:2525")]
    assert ports == [25, 587, 465, 2525]


async def test_a_server_named_by_its_ip_address_sends_too(
    start_mail_server: StartMailServer, stack: AsyncExitStack
) -> None:
    server = await start_mail_server()
    smtp = connect(stack, server)
    sender = Sender.parse("", "127.0.0.1:8090")
    await smtp.deliver(compose(sender, "alice@example.org", "Hi", "text", None, message_id="abc", now_ms=0))
    assert server.received[0].sender == "noreply@[127.0.0.1]"


async def test_lines_that_begin_with_a_dot_arrive_whole(
    start_mail_server: StartMailServer, stack: AsyncExitStack
) -> None:
    server = await start_mail_server()
    smtp = connect(stack, server)
    text = ".\n..\n.and on\n"
    await smtp.deliver(compose(SENDER, "alice@example.org", "Hi", text, None, message_id="abc", now_ms=0))
    assert server.received[0].message.get_content().replace("\r\n", "\n") == text


# Connections


async def test_a_connection_serves_one_message_after_another(
    start_mail_server: StartMailServer, stack: AsyncExitStack
) -> None:
    server = await start_mail_server()
    smtp = connect(stack, server)
    for number in range(10):
        await smtp.deliver(mail_to(f"user{number}@example.org"))
    assert len(server.received) == 10
    assert len(server.connections) == 1


async def test_no_more_connections_than_allowed(start_mail_server: StartMailServer, stack: AsyncExitStack) -> None:
    server = await start_mail_server()
    smtp = connect(stack, server, max_connections=3)
    await asyncio.gather(*(smtp.deliver(mail_to(f"user@example{number}.org")) for number in range(30)))
    assert len(server.received) == 30
    assert len(server.connections) == 3


async def test_a_connection_that_the_server_closed_is_replaced(
    start_mail_server: StartMailServer, stack: AsyncExitStack
) -> None:
    server = await start_mail_server()
    smtp = connect(stack, server)
    await smtp.deliver(mail_to("alice@example.org"))
    server.connections[0].close()
    await smtp.deliver(mail_to("bob@example.org"))
    assert [received.recipient for received in server.received] == ["alice@example.org", "bob@example.org"]
    assert len(server.connections) == 2


@pytest.mark.parametrize("when", ["mail_replies", "data_replies"])
async def test_a_server_that_has_had_enough_of_a_connection_gets_the_message_on_a_new_one(
    start_mail_server: StartMailServer, stack: AsyncExitStack, when: str
) -> None:
    server = await start_mail_server()
    smtp = connect(stack, server)
    await smtp.deliver(mail_to("alice@example.org"))
    getattr(server, when).append("421 too many messages on this connection")
    await smtp.deliver(mail_to("bob@example.org"))
    assert [received.recipient for received in server.received] == ["alice@example.org", "bob@example.org"]
    assert len(server.connections) == 2


async def test_a_message_that_may_have_been_accepted_is_not_sent_again(
    start_mail_server: StartMailServer, stack: AsyncExitStack
) -> None:
    server = await start_mail_server()
    smtp = connect(stack, server)
    await smtp.deliver(mail_to("alice@example.org"))
    server.data_replies.append("break off")
    with pytest.raises(EmailSendError):
        await smtp.deliver(mail_to("bob@example.org"))
    assert server.mail_commands == 2
    await smtp.deliver(mail_to("carol@example.org"))


async def test_idle_connections_are_closed_after_a_while(start_mail_server: StartMailServer) -> None:
    server = await start_mail_server()
    smtp = SmtpConnections(
        SmtpServer.parse(server.url()), ehlo_name="id", timeout_ms=2_000, max_connections=2, idle_seconds=0.05
    )
    await smtp.deliver(mail_to("alice@example.org"))
    await until_closed(server)
    await smtp.deliver(mail_to("bob@example.org"))
    assert len(server.connections) == 2
    await smtp.aclose()
    await until_closed(server)


# What goes wrong


async def test_a_refused_recipient_is_an_error_and_costs_no_connection(
    start_mail_server: StartMailServer, stack: AsyncExitStack
) -> None:
    server = await start_mail_server()
    server.refused = "nobody"
    smtp = connect(stack, server)
    with pytest.raises(EmailSendError) as caught:
        await smtp.deliver(mail_to("nobody@example.org"))
    assert "nobody" not in str(caught.value)
    await smtp.deliver(mail_to("alice@example.org"))
    assert len(server.connections) == 1


async def test_stalled_recipients_do_not_delay_the_others(
    start_mail_server: StartMailServer, stack: AsyncExitStack
) -> None:
    server = await start_mail_server()
    server.stalled = "slow.example"
    smtp = connect(stack, server, timeout_ms=1_500, max_connections=4)
    stalled = [asyncio.create_task(smtp.deliver(mail_to(f"user{n}@slow.example"))) for n in range(8)]
    await asyncio.sleep(0.1)
    began = time.monotonic()
    for number in range(20):
        await smtp.deliver(mail_to(f"user{number}@example.org"))
    assert time.monotonic() - began < 1
    outcomes = await asyncio.gather(*stalled, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {EmailSendError}


async def test_a_server_that_never_speaks_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        smtp = SmtpConnections(
            SmtpServer.parse(f"smtp://127.0.0.1:{port}"), ehlo_name="id", timeout_ms=200, max_connections=2
        )
        began = time.monotonic()
        with pytest.raises(EmailSendError):
            await smtp.deliver(mail_to("alice@example.org"))
        assert time.monotonic() - began < 1


async def test_no_server_at_all_is_an_error() -> None:
    smtp = SmtpConnections(SmtpServer.parse("smtp://127.0.0.1:1"), ehlo_name="id", timeout_ms=500, max_connections=2)
    with pytest.raises(EmailSendError):
        await smtp.deliver(mail_to("alice@example.org"))


async def test_a_cancelled_delivery_leaves_nothing_half_said(
    start_mail_server: StartMailServer, stack: AsyncExitStack
) -> None:
    server = await start_mail_server()
    server.stalled = "slow"
    smtp = connect(stack, server, max_connections=1)
    delivery = asyncio.create_task(smtp.deliver(mail_to("alice@slow.example")))
    await asyncio.sleep(0.1)
    delivery.cancel()
    with pytest.raises(asyncio.CancelledError):
        await delivery
    await smtp.deliver(mail_to("bob@example.org"))
    assert [received.recipient for received in server.received] == ["bob@example.org"]


# Internationalised addresses


async def test_an_international_domain_needs_nothing_of_the_server(
    start_mail_server: StartMailServer, stack: AsyncExitStack
) -> None:
    server = await start_mail_server(smtputf8=False)
    smtp = connect(stack, server)
    await smtp.deliver(mail_to("alice@bücher.example"))
    assert server.received[0].recipient == "alice@xn--bcher-kva.example"
    assert server.received[0].message["To"] == "alice@xn--bcher-kva.example"


async def test_an_international_local_part_is_sent_with_smtputf8(
    start_mail_server: StartMailServer, stack: AsyncExitStack
) -> None:
    server = await start_mail_server()
    smtp = connect(stack, server)
    await smtp.deliver(mail_to("jürgen@bücher.example"))
    [received] = server.received
    assert received.smtputf8
    assert received.recipient == "jürgen@xn--bcher-kva.example"
    assert "jürgen@" in received.message["To"]


async def test_an_international_local_part_is_refused_where_the_server_lacks_smtputf8(
    start_mail_server: StartMailServer, stack: AsyncExitStack
) -> None:
    server = await start_mail_server(smtputf8=False)
    smtp = connect(stack, server)
    with pytest.raises(EmailSendError):
        await smtp.deliver(mail_to("jürgen@example.org"))
    await smtp.deliver(mail_to("alice@example.org"))
    assert len(server.connections) == 1
