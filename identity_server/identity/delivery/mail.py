"""One mail, composed: its headers, its two bodies, and the envelope that it travels in. Pure.

RFC 5322 (format), RFC 3834 (``Auto-Submitted``), RFC 6531 and 5891 (internationalised addresses).
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from email.utils import parseaddr
from ipaddress import ip_address

import idna

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
    if not domain.isascii():
        domain = idna.encode(domain, uts46=True).decode()
    return local_part, domain


def compose(
    sender: Sender, recipient: str, subject: str, text: str, html: str | None, *, message_id: str, now_ms: int
) -> Mail:
    """A mail as text and, if there is one, as HTML. ``message_id`` is the part before the ``@``.

    Raises ``ValueError`` for an impossible ``recipient``.
    """
    local_part, domain = split_address(recipient)
    needs_utf8 = not (local_part + sender.local_part).isascii()
    message = EmailMessage(SMTPUTF8 if needs_utf8 else SMTP)
    message["From"] = Address(sender.display_name, sender.local_part, sender.domain)
    message["To"] = Address("", local_part, domain)
    # The subject may hold names that strangers chose: it is one line, whatever they wrote.
    message["Subject"] = " ".join(subject.split())
    message["Date"] = datetime.fromtimestamp(now_ms / 1000, UTC)
    message["Message-ID"] = f"<{message_id}@{sender.domain}>"
    message["Auto-Submitted"] = "auto-generated"
    # Quoted-printable passes every server, 8BITMIME or not, and is kinder to spam filters than base64.
    message.set_content(text, cte="quoted-printable")
    if html is not None:
        message.add_alternative(html, subtype="html", cte="quoted-printable")
        # Else the standard library draws one from ambient randomness.
        message.set_boundary(f"={message_id}=")
    return Mail(sender.address, f"{local_part}@{domain}", message.as_bytes(), needs_utf8)
