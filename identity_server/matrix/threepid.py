"""Third-party identifiers and their canonical form (Appendices, "3PID Types")."""

import hashlib
import re
from binascii import b2a_base64
from typing import NamedTuple

import idna
import phonenumbers

from identity_server.matrix.errors import InvalidAddress, InvalidEmail

EMAIL = "email"
MSISDN = "msisdn"

# One address and nothing else: no display name, no list, no comment, no control character, nothing that a
# mail header could be bent with. Stricter than RFC 5321 where it allows quoted local parts, which nobody has.
# `_DOMAIN` is of the domain as mail is delivered to it.
_EMAIL = re.compile(r"[^\s@<>()\[\],;:\\\"\x00-\x1f\x7f]{1,64}@[^\s@<>()\[\],;:\\\"\x00-\x1f\x7f/]{1,253}")
_DOMAIN = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9_-]{1,63}(?<!-))*")
_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_MSISDN = re.compile(r"[1-9][0-9]{4,14}")


class Threepid(NamedTuple):
    """A third-party identifier: ``address`` is canonical."""

    medium: str
    address: str


def canonical_email(typed: str) -> str:
    """The case-folded address ("E-Mail"). Raises ``InvalidEmail``."""
    address = typed.strip().casefold()
    if not _EMAIL.fullmatch(address):
        raise InvalidEmail("The email address is not valid")
    local_part, domain = address.split("@")
    if local_part.startswith(".") or local_part.endswith(".") or ".." in local_part:
        raise InvalidEmail("The email address is not valid")
    try:
        if not domain.isascii():
            # Else each of a domain's spellings would be an address of its own (UTS 46, 4: "Processing"). It is not
            # written in ASCII, for clients hash what is typed; and folded last, as the specification says.
            domain = idna.uts46_remap(domain).casefold()
        is_domain = bool(_DOMAIN.fullmatch(ascii_domain(domain)))
    except UnicodeError as error:
        raise InvalidEmail("The email address is not valid") from error
    address = f"{local_part}@{domain}"
    if not is_domain or len(address) > 254:
        raise InvalidEmail("The email address is not valid")
    return address


def ascii_domain(domain: str) -> str:
    """``domain`` as mail is delivered to it (RFC 5891, UTS 46). Raises ``UnicodeError`` where there is no such form."""
    return domain if domain.isascii() else idna.encode(domain, uts46=True).decode()


def canonical_msisdn(country: str, typed: str) -> str:
    """E.164 without ``+`` ("PSTN Phone numbers"), from a number as dialled in ``country`` (two upper-case letters).

    Raises ``InvalidAddress``.
    """
    try:
        number = phonenumbers.parse(typed, country)
    except phonenumbers.NumberParseException as error:
        raise InvalidAddress("The phone number is not valid") from error
    # `is_possible_number` is true of local numbers, too, which with a country's code before them are somebody else's.
    if phonenumbers.is_possible_number_with_reason(number) != phonenumbers.ValidationResult.IS_POSSIBLE:
        raise InvalidAddress("The phone number is not valid")
    # Longer than E.164 allows is "possible" where a country's own numbers are.
    return canonical(MSISDN, phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)).address


def canonical(medium: str, address: str) -> Threepid:
    """A 3PID as it stands in a request, in canonical form.

    Raises ``InvalidEmail`` or ``InvalidAddress``; media that we do not know are passed through as they are.
    """
    match medium:
        case "email":
            return Threepid(medium, canonical_email(address))
        case "msisdn":
            digits = address.strip().removeprefix("+")
            if not _MSISDN.fullmatch(digits):
                raise InvalidAddress("The phone number is not valid")
            return Threepid(medium, digits)
        case _:
            return Threepid(medium, address)


def mailbox(threepid: Threepid) -> str:
    """One for all addresses by which the same one is reached, as far as can be told. Raises ``UnicodeError``."""
    medium, address = threepid
    if medium == EMAIL:
        local_part, _, domain = address.rpartition("@")
        address = f"{local_part}@{ascii_domain(domain)}"
    return f"{medium} {address}"


def lowercase_spelling(typed: str, address: str) -> str | None:
    """How clients that only lower-case would write the email ``address``, where that differs from the folded form.

    Folding makes `strauss@…` of `Strauß@…`; matrix-js-sdk hashes `strauß@…`.
    """
    lowered = typed.strip().lower()
    return lowered if lowered != address else None


def lookup_hash(address: str, medium: str, pepper: str) -> str:
    """URL-safe unpadded base64 of the SHA-256 of "<address> <medium> <pepper>" (Identity Service API, "sha256")."""
    digest = hashlib.sha256(f"{address} {medium} {pepper}".encode()).digest()
    return b2a_base64(digest, newline=False).translate(_URL_SAFE)[:43].decode()
