"""Composing a mail: pure, and nothing in a name or a subject can bend a header."""

from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import parseaddr

import idna

from identity_server.runtime.tokens import Entropy

# Boundaries are ours: the standard library would draw them from ambient randomness.
_BOUNDARY_LENGTH = 24
_MESSAGE_ID_LENGTH = 24


def mailbox(address: str) -> Address:
    """An address as mail servers know it: a domain beyond ASCII becomes its A-labels (RFC 5891).

    The local part stays as it is, and needs SMTPUTF8 if it is beyond ASCII (RFC 6531). Raises ``ValueError``.
    """
    local_part, _, domain = address.rpartition("@")
    if not domain.isascii():
        domain = idna.encode(domain, uts46=True).decode("ascii")
    return Address(username=local_part, domain=domain)


def read_sender(sender: str, server_name: str) -> Address:
    """The From address of ``email.sender``, "Name <address>" or bare. Raises ``ValueError``."""
    if not sender:
        return Address(username="noreply", domain=server_name)
    name, address = parseaddr(sender)
    if "@" not in address:
        raise ValueError('email.sender is not an address such as "noreply@example.org"')
    plain = mailbox(address)
    return Address(name, plain.username, plain.domain)


def compose(
    *, sender: Address, recipient: Address, subject: str, text: str, html: str | None, entropy: Entropy, now_ms: int
) -> EmailMessage:
    """A mail from a machine (RFC 3834), as text and, if there is one, as HTML."""
    mail = EmailMessage(policy=SMTP)
    mail["From"] = sender
    mail["To"] = recipient
    mail["Subject"] = subject
    mail["Date"] = datetime.fromtimestamp(now_ms / 1000, UTC)
    mail["Message-ID"] = f"<{entropy.token(_MESSAGE_ID_LENGTH)}@{sender.domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    # Quoted-printable passes every server, whether or not it has 8BITMIME.
    mail.set_content(text, cte="quoted-printable")
    if html is not None:
        mail.add_alternative(html, subtype="html", cte="quoted-printable")
        mail.set_boundary(f"=_{entropy.token(_BOUNDARY_LENGTH)}")
    return mail
