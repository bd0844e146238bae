"""Identifiers and their grammar (Appendices, "Identifier Grammar"), as types that Pydantic checks."""

import ipaddress
import re
from functools import lru_cache
from typing import Annotated, NamedTuple

from pydantic import AfterValidator

_DNS_NAME = re.compile(r"[0-9A-Za-z.-]{1,255}")
_PORT = re.compile(r"[0-9]{1,5}")
_OPAQUE = re.compile(r"[0-9a-zA-Z.=_-]{1,255}")


class HostAndPort(NamedTuple):
    """The two halves of a server name; ``host`` keeps no brackets."""

    host: str
    port: int | None
    is_ip: bool


# Addresses and users of few servers are read again and again.
@lru_cache(maxsize=10_000)
def split_server_name(name: str) -> HostAndPort:
    """``ValueError`` unless ``name`` is a server name ("Server Name")."""
    if name.startswith("["):
        address, closing, rest = name[1:].partition("]")
        # ipaddress takes a scope ID ("%…") of any characters; the grammar has none.
        if not closing or "%" in address or (rest and not rest.startswith(":")):
            raise ValueError("not a server name")
        return HostAndPort(str(ipaddress.IPv6Address(address)), _port(rest[1:]) if rest else None, is_ip=True)
    host, colon, port = name.partition(":")
    if not _DNS_NAME.fullmatch(host):
        raise ValueError("not a server name")
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return HostAndPort(host, _port(port) if colon else None, is_ip=False)
    return HostAndPort(host, _port(port) if colon else None, is_ip=True)


def _port(digits: str) -> int:
    if not _PORT.fullmatch(digits) or not 0 < int(digits) < 65536:
        raise ValueError("not a port")
    return int(digits)


def domain_of(identifier: str) -> str:
    """The server name in a user ID, room alias or (older) room ID; ``ValueError`` if there is none."""
    _, colon, domain = identifier.partition(":")
    if not colon:
        raise ValueError("the identifier names no server")
    split_server_name(domain)
    return domain


def _server_name(value: str) -> str:
    split_server_name(value)
    return value


def check_user_id(value: str) -> str:
    """``value``, if it is a user ID ("User Identifiers"); ``ValueError`` otherwise."""
    # Historical user IDs are accepted ("Historical User IDs"); only NUL and an empty localpart are not.
    if not value.startswith("@") or value[1:2] in ("", ":") or "\0" in value or len(value.encode()) > 255:
        raise ValueError("not a user ID")
    domain_of(value)
    return value


def _room_id(value: str) -> str:
    # From room version 12 on a room ID names no server ("Room IDs").
    if not value.startswith("!") or len(value) < 2 or "\0" in value or len(value.encode()) > 255:
        raise ValueError("not a room ID")
    return value


def _opaque(value: str) -> str:
    if not _OPAQUE.fullmatch(value):
        raise ValueError("must be 1 to 255 of the characters 0-9 a-z A-Z . = _ -")
    return value


def _text(value: str) -> str:
    # PostgreSQL stores no NUL, and nothing that a person writes contains one.
    if "\0" in value:
        raise ValueError("must not contain NUL")
    return value


ServerName = Annotated[str, AfterValidator(_server_name)]
UserID = Annotated[str, AfterValidator(check_user_id)]
RoomID = Annotated[str, AfterValidator(_room_id)]
# `sid`, `client_secret` and invite tokens (Identity Service API).
Opaque = Annotated[str, AfterValidator(_opaque)]
Text = Annotated[str, AfterValidator(_text)]
