"""Media as servers hand it to each other: ``multipart/mixed`` (Server-Server API, "Content Repository")."""

import re
from collections.abc import Mapping
from email.message import Message
from typing import NamedTuple

_BOUNDARY = re.compile(r"""boundary=(?:"([^"]{1,70})"|([^\s;"]{1,70}))""", re.IGNORECASE)


class Malformed(ValueError):
    """It is not what the specification says."""


class Part(NamedTuple):
    headers: Mapping[str, str]
    """By lower-case name."""
    content: bytes


def opening(boundary: str, headers: Mapping[str, str]) -> bytes:
    """What comes before the content: the metadata, of which there is none yet, and the content's headers."""
    lines = [f"--{boundary}", "Content-Type: application/json", "", "{}", f"--{boundary}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def closing(boundary: str) -> bytes:
    return f"\r\n--{boundary}--\r\n".encode()


def content_part(content_type: str, body: bytes) -> Part:
    """The second part. Raises ``Malformed``."""
    found = _BOUNDARY.search(content_type)
    if not content_type.lower().startswith("multipart/mixed") or found is None:
        raise Malformed("it is not multipart/mixed")
    delimiter = b"--" + (found[1] or found[2]).encode()
    # The first may begin the body, or follow a preamble and a line break (RFC 2046, section 5.1.1).
    framed = b"\r\n" + body
    start = framed.find(b"\r\n" + delimiter)
    second = framed.find(b"\r\n" + delimiter, start + 1) if start >= 0 else -1
    end = framed.find(b"\r\n" + delimiter, second + 1) if second >= 0 else -1
    if end < 0:
        raise Malformed("it has not two parts")
    # After the delimiter there may be white space to the end of the line.
    line_end = framed.find(b"\r\n", second + 2)
    part = framed[line_end + 2 : end]
    if part.startswith(b"\r\n"):
        return Part({}, part[2:])
    head, separator, content = part.partition(b"\r\n\r\n")
    if not separator:
        raise Malformed("its second part has no end of headers")
    return Part(_headers(head), content)


def _headers(head: bytes) -> dict[str, str]:
    message = Message()
    for line in head.decode("latin-1").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            message[name.strip()] = value.strip()
    return {name.lower(): str(value) for name, value in message.items()}
