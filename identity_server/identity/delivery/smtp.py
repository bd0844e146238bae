"""How a mail reaches the SMTP server: over a few connections that are kept and used again.

The URL says how much encryption is asked for:

- ``smtp://`` takes STARTTLS when it is offered, without looking at the certificate (whoever could forge that could
  as well suppress the offer);
- ``smtp+starttls://`` insists on STARTTLS with a valid certificate;
- ``smtps://`` begins with TLS, with a valid certificate.

A user name and password (percent-encoded in the URL) are only ever sent over TLS with a valid certificate, or to
this same machine.
"""

import asyncio
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit
from weakref import WeakValueDictionary

import structlog
from aiosmtplib import SMTP, SMTPException, SMTPRecipientRefused, SMTPResponseException, SMTPServerDisconnected

from identity_server.identity.delivery.mail import Mail
from identity_server.matrix.errors import EmailSendError
from identity_server.runtime.tls import connecting_context

log = structlog.get_logger(__name__)

_IDLE_SECONDS = 15.0
_QUIT_SECONDS = 2.0
_SERVICE_NOT_AVAILABLE = 421

Encryption = Literal["opportunistic", "starttls", "tls"]
_ENCRYPTION: dict[str, Encryption] = {"smtp": "opportunistic", "smtp+starttls": "starttls", "smtps": "tls"}
_PORTS: dict[Encryption, int] = {"opportunistic": 25, "starttls": 587, "tls": 465}


@dataclass(frozen=True)
class SmtpServer:
    encryption: Encryption
    host: str
    port: int
    username: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str) -> "SmtpServer":
        """Raises ``ValueError``, without the URL in its message."""
        parts = urlsplit(url)
        if parts.scheme not in _ENCRYPTION or not parts.hostname:
            raise ValueError("email.smtp_url must begin with smtp://, smtp+starttls:// or smtps://, and name a host")
        encryption = _ENCRYPTION[parts.scheme]
        return cls(
            encryption,
            parts.hostname,
            parts.port or _PORTS[encryption],
            unquote(parts.username or ""),
            unquote(parts.password or ""),
        )


class _NotAccepted(Exception):
    """The connection failed before the server can have taken the message."""


class SmtpConnections:
    """At most ``max_connections`` to one server, each message on one of its own while it is sent.

    ``ehlo_name`` is how we introduce ourselves. ``timeout_ms`` is the most that one message may take, waiting for
    a connection included. ``ca_file`` holds certificate authorities to trust beside the system's.
    """

    def __init__(
        self,
        server: SmtpServer,
        *,
        ehlo_name: str,
        timeout_ms: int,
        max_connections: int,
        ca_file: Path | None = None,
        idle_seconds: float = _IDLE_SECONDS,
    ) -> None:
        self._server = server
        self._ehlo_name = ehlo_name
        self._timeout_seconds = timeout_ms / 1000
        self._idle_seconds = idle_seconds
        self._verifying = connecting_context(ca_file)
        self._unverifying = connecting_context(is_verifying=False)
        self._slots = asyncio.Semaphore(max_connections)
        # Servers check recipients while we wait, some for long: one domain whose own server stalls may hold most of
        # the connections, but never all of them.
        self._slots_per_domain = max(1, max_connections * 3 // 4)
        self._domains: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._idle: list[SMTP] = []
        self._retirements: dict[SMTP, asyncio.TimerHandle] = {}
        self._goodbyes: set[asyncio.Task[None]] = set()

    async def deliver(self, mail: Mail) -> None:
        """Hand ``mail`` to the server.

        Raises ``EmailSendError``; its cause may quote the address, but ``code`` (the server's reply) does not.
        """
        domain = mail.recipient.rpartition("@")[2]
        share = self._domains.setdefault(domain, asyncio.Semaphore(self._slots_per_domain))
        try:
            async with asyncio.timeout(self._timeout_seconds), share, self._slots:
                await self._deliver(mail)
        except _NotAccepted as error:
            raise EmailSendError("The email could not be sent") from error.__cause__
        except SMTPResponseException as error:
            raise EmailSendError("The email was refused") from error
        except (SMTPException, OSError) as error:
            raise EmailSendError("The email could not be sent") from error

    async def aclose(self) -> None:
        """Say goodbye on the connections that nobody uses."""
        while self._idle:
            self._retire(self._idle[-1])
        await asyncio.gather(*self._goodbyes)

    async def _deliver(self, mail: Mail) -> None:
        if (connection := self._take_idle()) is not None:
            try:
                return await self._transact(connection, mail)
            except _NotAccepted:
                log.info("smtp connection replaced")
        # Not from the idle ones again: what ended the first has likely ended them all.
        await self._transact(await self._connect(), mail)
        return None

    async def _transact(self, connection: SMTP, mail: Mail) -> None:
        """Raises ``_NotAccepted`` where the same message may safely be given to another connection."""
        try:
            await self._send(connection, mail)
        except SMTPResponseException as error:
            if error.code == _SERVICE_NOT_AVAILABLE:
                connection.close()
                raise _NotAccepted from error
            if await _reset(connection):
                self._keep(connection)
            raise
        except BaseException:
            # Whatever state the connection is in, it is not one to begin another message from.
            connection.close()
            raise
        self._keep(connection)

    async def _send(self, connection: SMTP, mail: Mail) -> None:
        if mail.needs_utf8 and not connection.supports_extension("smtputf8"):
            raise SMTPRecipientRefused(553, "the server lacks SMTPUTF8", mail.recipient)
        encoding = "utf-8" if mail.needs_utf8 else "ascii"
        try:
            await connection.mail(mail.sender, options=["SMTPUTF8"] if mail.needs_utf8 else [], encoding=encoding)
            await connection.rcpt(mail.recipient, encoding=encoding)
        except SMTPServerDisconnected as error:
            raise _NotAccepted from error
        # From here on a lost connection leaves it open whether the message was taken; twice would be worse than
        # an error, after which the user asks again.
        await connection.data(mail.content)

    async def _connect(self) -> SMTP:
        server = self._server
        connection = SMTP(
            hostname=server.host,
            port=server.port,
            local_hostname=self._ehlo_name,
            timeout=self._timeout_seconds,
            use_tls=server.encryption == "tls",
            start_tls=False,
            tls_context=self._verifying,
        )
        try:
            await connection.connect()
            await connection.ehlo()
            await self._encrypt_and_log_in(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    async def _encrypt_and_log_in(self, connection: SMTP) -> None:
        server = self._server
        keeps_secret = bool(server.username) and not _is_loopback(connection.get_transport_info("peername")[0])
        if server.encryption == "starttls" or (
            server.encryption == "opportunistic" and (keeps_secret or connection.supports_extension("starttls"))
        ):
            is_verified = keeps_secret or server.encryption == "starttls"
            # Raises SMTPException if it is not offered.
            await connection.starttls(tls_context=self._verifying if is_verified else self._unverifying)
            await connection.ehlo()
        if server.username:
            await connection.login(server.username, server.password)

    def _take_idle(self) -> SMTP | None:
        while self._idle:
            connection = self._idle.pop()
            self._retirements.pop(connection).cancel()
            if connection.is_connected:
                return connection
        return None

    def _keep(self, connection: SMTP) -> None:
        if connection.is_connected:
            self._idle.append(connection)
            loop = asyncio.get_running_loop()
            self._retirements[connection] = loop.call_later(self._idle_seconds, self._retire, connection)

    def _retire(self, connection: SMTP) -> None:
        self._idle.remove(connection)
        self._retirements.pop(connection).cancel()
        goodbye = asyncio.get_running_loop().create_task(_quit(connection))
        self._goodbyes.add(goodbye)
        goodbye.add_done_callback(self._goodbyes.discard)


def _is_loopback(peer: str) -> bool:
    return ip_address(peer.partition("%")[0]).is_loopback


async def _reset(connection: SMTP) -> bool:
    """Forget a refused envelope; whether the connection is good for another. If not, it is closed."""
    try:
        await connection.rset()
    except (SMTPException, OSError):
        connection.close()
        return False
    except BaseException:
        connection.close()
        raise
    return True


async def _quit(connection: SMTP) -> None:
    try:
        await connection.quit(timeout=_QUIT_SECONDS)
    except (SMTPException, OSError):
        log.debug("smtp server did not say goodbye")
    finally:
        connection.close()
