"""Mail over SMTP: a pool of connections, each message on one of them.

What a connection may be trusted with is decided by its URL's scheme, and by where it really leads:

``smtp://`` (port 25)
    STARTTLS if the server offers it, without looking at its certificate: better than nothing against those who only
    listen. With a password in the URL, and to another machine than this one, it is ``smtp+starttls://``.
``smtp+starttls://`` (port 587)
    STARTTLS or nothing, with a certificate that is valid for the host.
``smtps://`` (port 465)
    TLS from the first byte, with a certificate that is valid for the host.

User and password are percent-decoded: ``smtps://user%40example.org:p%2Fw@mail.example.org``.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from urllib.parse import unquote, urlsplit

import aiosmtplib

from identity_server.matrix.errors import EmailSendError

_DEFAULT_PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}
_CLOSING = 421  # "Service not available, closing transmission channel" (RFC 5321, 4.2.3)


@dataclass(frozen=True)
class SmtpUrl:
    scheme: str
    host: str
    port: int
    username: str
    password: str

    @classmethod
    def read(cls, url: str) -> "SmtpUrl":
        """Raises ``ValueError``, without the URL: it may hold a password."""
        parts = urlsplit(url)
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.path not in ("", "/") or parts.query:
            raise ValueError("email.smtp_url is not of the form smtp|smtp+starttls|smtps://[user:password@]host[:port]")
        port = parts.port or _DEFAULT_PORTS[parts.scheme]
        return cls(parts.scheme, parts.hostname, port, unquote(parts.username or ""), unquote(parts.password or ""))


def hello_name(server_name: str) -> str:
    """What EHLO says: the host of ``server_name``, as an address literal if it is one (RFC 5321, 4.1.3)."""
    host = urlsplit(f"//{server_name}").hostname or "localhost"
    with suppress(ValueError):
        address = ip_address(host)
        return f"[IPv6:{address}]" if isinstance(address, IPv6Address) else f"[{address}]"
    return host


class _GoneBeforeAccepting(Exception):
    """The server ended the connection, and has surely not taken the message."""


class SmtpPool:
    """At most ``max_connections`` at a time. A free one is used again, the last used first, so that the others may
    fall idle; an idle one says QUIT after ``idle_ms``.

    ``timeout_ms`` is for everything that one message needs, waiting for a connection included. ``ca_file``: authorities
    to trust beside the system's.
    """

    def __init__(
        self,
        url: SmtpUrl,
        *,
        hello: str,
        timeout_ms: int = 30_000,
        max_connections: int = 20,
        idle_ms: int = 20_000,
        ca_file: Path | None = None,
    ) -> None:
        self._url = url
        self._hello = hello
        self._timeout = timeout_ms / 1000
        self._idle_seconds = idle_ms / 1000
        self._verifying = ssl.create_default_context()
        if ca_file is not None:
            self._verifying.load_verify_locations(ca_file)
        self._unverifying = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._unverifying.check_hostname = False
        self._unverifying.verify_mode = ssl.CERT_NONE
        self._slots = asyncio.Semaphore(max_connections)
        self._idle: dict[aiosmtplib.SMTP, asyncio.TimerHandle] = {}
        self._partings: set[asyncio.Task[None]] = set()

    async def send(self, mail: EmailMessage) -> None:
        """Hand ``mail`` over to the server. Raises ``EmailSendError``; the cause, if it has one, may hold the address.

        Once the text has been sent and no answer has come, the mail may or may not be on its way: it is not sent again.
        """
        try:
            async with asyncio.timeout(self._timeout), self._slots:
                await self._send(mail)
        except aiosmtplib.SMTPRecipientRefused as error:
            later = " for the moment" if error.code < 500 else ""
            raise EmailSendError(f"The mail server refuses this address{later}") from error
        except TimeoutError as error:
            raise EmailSendError("The mail server did not answer in time") from error
        except aiosmtplib.SMTPNotSupported as error:
            raise EmailSendError("The mail server cannot deliver to addresses of this kind") from error
        except aiosmtplib.SMTPResponseException as error:
            raise EmailSendError("The mail server did not accept the mail") from error
        except (aiosmtplib.SMTPException, _GoneBeforeAccepting, OSError) as error:
            raise EmailSendError("The mail could not be handed to the mail server") from error

    async def check(self) -> None:
        """Connect, encrypt and authenticate, as for a message. Raises ``aiosmtplib.SMTPException`` or ``OSError``."""
        async with asyncio.timeout(self._timeout):
            await self._part(await self._connect())

    async def close(self) -> None:
        """Take leave of the server on every idle connection."""
        while self._idle:
            client, timer = self._idle.popitem()
            timer.cancel()
            self._part_later(client)
        await asyncio.gather(*self._partings)

    async def _send(self, mail: EmailMessage) -> None:
        if client := self._take_idle():
            # That it has been closed meanwhile is often noticed only when it is used.
            with suppress(_GoneBeforeAccepting):
                async with self._returning(client):
                    return await _transact(client, mail)
        client = await self._connect()
        async with self._returning(client):
            return await _transact(client, mail)

    def _take_idle(self) -> aiosmtplib.SMTP | None:
        while self._idle:
            client, timer = self._idle.popitem()
            timer.cancel()
            if client.is_connected:
                return client
        return None

    @asynccontextmanager
    async def _returning(self, client: aiosmtplib.SMTP) -> AsyncIterator[None]:
        """Put ``client`` back among the idle ones after use, unless its state is in doubt (after a time-out, say)."""
        sound = False
        try:
            yield
            sound = True
        except aiosmtplib.SMTPNotSupported:
            sound = True
            raise
        except aiosmtplib.SMTPResponseException as error:
            if error.code >= 400 and client.is_connected:
                with suppress(aiosmtplib.SMTPException, OSError):
                    await client.rset()
                    sound = True
            raise
        finally:
            if sound:
                self._put_back(client)
            else:
                client.close()

    def _put_back(self, client: aiosmtplib.SMTP) -> None:
        if client.is_connected:
            loop = asyncio.get_running_loop()
            self._idle[client] = loop.call_later(self._idle_seconds, self._expire, client)

    def _expire(self, client: aiosmtplib.SMTP) -> None:
        del self._idle[client]
        self._part_later(client)

    def _part_later(self, client: aiosmtplib.SMTP) -> None:
        parting = asyncio.create_task(self._part(client))
        self._partings.add(parting)
        parting.add_done_callback(self._partings.discard)

    async def _part(self, client: aiosmtplib.SMTP) -> None:
        with suppress(aiosmtplib.SMTPException, OSError):
            await client.quit(timeout=min(self._timeout, 2))
        client.close()

    async def _connect(self) -> aiosmtplib.SMTP:
        url = self._url
        client = aiosmtplib.SMTP(
            hostname=url.host,
            port=url.port,
            local_hostname=self._hello,
            timeout=self._timeout,
            use_tls=url.scheme == "smtps",
            start_tls=False,  # decided below, when it is known where the connection leads
            tls_context=self._verifying,
        )
        try:
            await client.connect()
            await client.ehlo()
            if url.scheme != "smtps":
                must = url.scheme == "smtp+starttls" or (url.username != "" and not _leads_to_loopback(client))
                if must or client.supports_extension("starttls"):
                    await client.starttls(tls_context=self._verifying if must else self._unverifying)
                    await client.ehlo()
            if url.username:
                await client.login(url.username, url.password)
        except BaseException:
            client.close()
            raise
        return client


async def _transact(client: aiosmtplib.SMTP, mail: EmailMessage) -> None:
    """One mail transaction (RFC 5321, 3.3)."""
    sender, recipient = (mail[header].addresses[0].addr_spec for header in ("From", "To"))
    if (sender + recipient).isascii():
        encoding, options, policy = "ascii", [], SMTP
    elif client.supports_extension("smtputf8"):
        encoding, options, policy = "utf-8", ["SMTPUTF8", "BODY=8BITMIME"], SMTPUTF8
    else:
        raise aiosmtplib.SMTPNotSupported("The server has no SMTPUTF8")
    accepting = False
    try:
        await client.mail(sender, options=options, encoding=encoding)
        await client.rcpt(recipient, encoding=encoding)
        accepting = True
        await client.data(mail.as_bytes(policy=policy))
    except aiosmtplib.SMTPServerDisconnected as error:
        if accepting:
            raise
        raise _GoneBeforeAccepting from error
    except aiosmtplib.SMTPResponseException as error:
        if error.code != _CLOSING:
            raise
        raise _GoneBeforeAccepting from error


def _leads_to_loopback(client: aiosmtplib.SMTP) -> bool:
    return ip_address(client.get_transport_info("peername")[0].partition("%")[0]).is_loopback
