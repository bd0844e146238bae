"""One mail, composed: its headers, its two bodies, and the envelope that it travels in. Pure.

RFC 5322 (format), RFC 3834 (``Auto-Submitted``), RFC 6531 and 5891 (internationalised addresses).
"""

import re
from binascii import b2a_qp
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.policy import SMTP, SMTPUTF8
from email.utils import format_datetime, parseaddr
from functools import lru_cache
from ipaddress import ip_address

from identity_server.matrix.threepid import ascii_domain

_LINE_END = re.compile(r"\r\n|\r|\n")
_SHORT = 70  # fits a line, which has 78 characters (RFC 5322, 2.1.1)
_SPECIAL = re.compile(r"[\s\x00-\x20\x7f<>(),:;\"\[\]\\]")


@dataclass(frozen=True)
class Mail:
    """What the SMTP server is given; ``needs_utf8`` if only a server with SMTPUTF8 can take it."""

    sender: str
    recipient: str
    content: bytes
    needs_utf8: bool


@dataclass(frozen=True)
class Sender:
    """Whom our mails are from."""

    display_name: str
    local_part: str
    domain: str

    @classmethod
    def parse(cls, configured: str, server_name: str) -> "Sender":
        """``email.sender``, which may carry a display name; by default noreply@ the server's name.

        Raises ``ValueError``.
        """
        if not configured:
            return cls("", "noreply", mail_domain(server_name))
        display_name, address = parseaddr(configured)
        return cls(display_name, *split_address(address))

    @property
    def address(self) -> str:
        return f"{self.local_part}@{self.domain}"


def mail_domain(server_name: str) -> str:
    """A Matrix server name as the right side of an address, or the argument of EHLO: IP addresses go in brackets."""
    bracketed, _, _ = server_name.partition("]")
    host = bracketed.removeprefix("[") if server_name.startswith("[") else server_name.partition(":")[0]
    try:
        address = ip_address(host)
    except ValueError:
        return host
    return f"[{address}]" if address.version == 4 else f"[IPv6:{address}]"


def split_address(address: str) -> tuple[str, str]:
    """Local part, and the domain as ASCII: every server takes A-labels, so SMTPUTF8 is needed for local parts only.

    Raises ``ValueError`` for what could be anything but one bare address.
    """
    local_part, at, domain = address.rpartition("@")
    if not (local_part and at and domain) or "@" in local_part or _SPECIAL.search(local_part + domain):
        raise ValueError("not an email address")
    return local_part, ascii_domain(domain)


def compose(
    sender: Sender, recipient: str, subject: str, text: str, html: str | None, *, message_id: str, now_ms: int
) -> Mail:
    """A mail as text and, if there is one, as HTML. ``message_id`` is the part before the ``@``.

    Raises ``ValueError`` for an impossible ``recipient``.
    """
    local_part, domain = split_address(recipient)
    needs_utf8 = not (local_part + sender.local_part).isascii()
    # EmailMessage would do the same in ten times the time (1 ms), which no other request gets to use; so the email
    # package writes the headers that can go wrong, and the rest is written out here.
    content = [
        _from(sender, needs_utf8),
        _to(local_part, domain, needs_utf8),
        _subject(subject, needs_utf8),
        f"Date: {format_datetime(datetime.fromtimestamp(now_ms / 1000, UTC))}\r\n",
        f"Message-ID: <{message_id}@{sender.domain}>\r\n",
        "Auto-Submitted: auto-generated\r\n",
        "MIME-Version: 1.0\r\n",
    ]
    if html is None:
        content += _body("plain", text)
    else:
        boundary = f"={message_id}="  # random, and so in no body that was written before it
        content += [
            f'Content-Type: multipart/alternative; boundary="{boundary}"\r\n\r\n',
            *(f"--{boundary}\r\n", *_body("plain", text)),
            *(f"\r\n--{boundary}\r\n", *_body("html", html)),
            f"\r\n--{boundary}--\r\n",
        ]
    return Mail(sender.address, f"{local_part}@{domain}", "".join(content).encode(), needs_utf8)


@lru_cache(maxsize=8)
def _from(sender: Sender, utf8: bool) -> str:
    return _folded("From", Address(sender.display_name, sender.local_part, sender.domain), utf8)


def _to(local_part: str, domain: str, utf8: bool) -> str:
    address = f"{local_part}@{domain}"
    if address.isascii() and len(address) <= _SHORT:
        return f"To: {address}\r\n"  # nothing to quote, ``split_address`` has seen to that, and nothing to fold
    return _folded("To", Address("", local_part, domain), utf8)


@lru_cache(maxsize=64)
def _subject(subject: str, utf8: bool) -> str:
    # It may hold names that strangers chose: it is one line, whatever they wrote.
    return _folded("Subject", " ".join(subject.split()), utf8)


def _folded(name: str, value: str | Address, utf8: bool) -> str:
    """A header line with its line end, encoded and folded as RFC 5322 and 2047 ask."""
    policy = SMTPUTF8 if utf8 else SMTP
    line: str = policy.fold(name, policy.header_factory(name, value))
    return line


def _body(subtype: str, text: str) -> tuple[str, str]:
    """A part's headers and its content."""
    # Quoted-printable passes every server, 8BITMIME or not, and is kinder to spam filters than base64.
    headers = f'Content-Type: text/{subtype}; charset="utf-8"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n'
    lines = _LINE_END.sub("\r\n", text.rstrip("\r\n") + "\n")
    return headers, b2a_qp(lines.encode()).decode()
