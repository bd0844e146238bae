"""A real SMTP server on loopback, which counts, refuses, stalls and breaks off as a test asks it to."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import SMTPUTF8
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd import smtp as aiosmtpd
from aiosmtpd.smtp import AuthResult, Envelope, Session


@dataclass
class Received:
    sender: str
    recipient: str
    content: bytes
    encrypted: bool
    username: str | None
    smtputf8: bool

    @property
    def message(self) -> EmailMessage:
        message = message_from_bytes(self.content, policy=SMTPUTF8)
        assert isinstance(message, EmailMessage)
        return message


@dataclass
class MailServer:
    """aiosmtpd's hooks (``handle_…``), and the knobs that tests turn."""

    port: int = 0
    scheme: str = "smtp"
    received: list[Received] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)
    connections: list[asyncio.Transport] = field(default_factory=list)
    mail_commands: int = 0
    refused: str = ""
    stalled: str = ""
    mail_replies: list[str] = field(default_factory=list)
    data_replies: list[str] = field(default_factory=list)

    def url(self, userinfo: str = "", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{userinfo}{host}:{self.port}"

    async def handle_MAIL(  # noqa: N802 (aiosmtpd names it)
        self, server: Any, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.mail_commands += 1
        if self.mail_replies:
            return self.mail_replies.pop(0)
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(  # noqa: N802 (aiosmtpd names it)
        self, server: Any, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.refused and self.refused in address:
            return f"550 no such user {address}"
        if self.stalled and self.stalled in address:
            await asyncio.sleep(30)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:  # noqa: N802 (aiosmtpd names it)
        if self.data_replies:
            reply = self.data_replies.pop(0)
            if reply == "break off":
                server.transport.abort()
                return "250 never seen"
            return reply
        assert envelope.mail_from is not None
        assert isinstance(envelope.content, bytes)
        self.received.append(
            Received(
                envelope.mail_from,
                envelope.rcpt_tos[0],
                envelope.content,
                server.transport.get_extra_info("sslcontext") is not None,
                self.logins[-1][0] if self.logins else None,
                envelope.smtp_utf8,
            )
        )
        return "250 OK"

    def authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, credentials: Any) -> AuthResult:
        self.logins.append((credentials.login.decode(), credentials.password.decode()))
        return AuthResult(success=credentials.password.decode() == "p@ss/word", handled=False)


StartMailServer = Callable[..., Awaitable[MailServer]]


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def ca_file(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture(scope="session")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


@pytest.fixture
async def start_mail_server(server_tls: ssl.SSLContext) -> AsyncIterator[StartMailServer]:
    async with AsyncExitStack() as stack:

        async def start(
            *, starttls: bool = False, tls: bool = False, auth: bool = False, smtputf8: bool = True
        ) -> MailServer:
            mail = MailServer(scheme="smtps" if tls else "smtp")

            class Counting(aiosmtpd.SMTP):
                def connection_made(self, transport: Any) -> None:
                    mail.connections.append(transport)
                    super().connection_made(transport)

            def protocol() -> aiosmtpd.SMTP:
                return Counting(
                    mail,
                    hostname="mail.test",
                    enable_SMTPUTF8=smtputf8,
                    tls_context=server_tls if starttls else None,
                    authenticator=mail.authenticate if auth else None,
                    auth_require_tls=False,
                    auth_exclude_mechanism=["LOGIN"],
                    loop=asyncio.get_running_loop(),
                )

            listening = await asyncio.get_running_loop().create_server(
                protocol, "127.0.0.1", 0, ssl=server_tls if tls else None
            )
            mail.port = listening.sockets[0].getsockname()[1]

            async def stop() -> None:
                listening.close()
                for transport in mail.connections:
                    transport.abort()
                # One turn of the loop, in which the server's tasks notice.
                await asyncio.sleep(0.01)

            stack.push_async_callback(stop)
            return mail

        yield start
