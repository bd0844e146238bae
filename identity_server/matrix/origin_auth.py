"""Who sent a request: the ``X-Matrix`` scheme (Server-Server API, "Request Authentication")."""

import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from identity_server.matrix.canonical_json import canonical_json, lenient_json
from identity_server.matrix.identifiers import split_server_name
from identity_server.matrix.server_keys import UnknownKey
from identity_server.matrix.signing import ALGORITHM, InvalidSignature, SigningKey, VerifyKey, verify_json

SCHEME = "X-Matrix"

_CREDENTIALS = re.compile(r"(?P<scheme>\S+) +(?P<parameters>.*)", re.DOTALL)
# RFC 9110, section 11.2, with its optional white space; older servers leave colons unquoted. A separator must be
# followed by a parameter or by the end, but empty elements of the list are allowed (section 5.6.1.2).
_TOKEN = r"!#$%&'*+\-.^_`|~0-9A-Za-z"
_PARAMETER = re.compile(
    rf"(?P<name>[{_TOKEN}]+)[ \t]*=[ \t]*"
    rf"(?:(?P<plain>[{_TOKEN}:]+)|\"(?P<quoted>(?:[^\"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t\x20-\x7e\x80-\xff])*)\")"
    r"[ \t]*(?:,[ \t,]*|\Z)"
)
_ESCAPED = re.compile(r"\\(.)")

KeyFor = Callable[[str, str], Awaitable[VerifyKey]]
"""The current key of a server by name and key ID. Raises ``UnknownKey``."""

NO_CONTENT: Any = object()
"""The content of a request without a body."""


class NotAuthentic(Exception):
    """It is not proven that the server which the request names has sent it to us."""


class NoServerName(NotAuthentic):
    """What the request names as its origin cannot be a server."""


@dataclass(frozen=True)
class Credentials:
    """What the header says; nothing of it is proven."""

    origin: str
    key_id: str
    signature: str
    destination: str | None = None
    """Older servers do not name it."""

    def header(self) -> str:
        """The value of the ``Authorization`` header."""
        named = {"origin": self.origin, "destination": self.destination, "key": self.key_id, "sig": self.signature}
        return f"{SCHEME} " + ",".join(f"{n}={_quoted(value)}" for n, value in named.items() if value is not None)

    @classmethod
    def parse(cls, header: str) -> "Credentials":
        """Raises ``NotAuthentic`` unless ``header`` is one of this scheme, and complete."""
        parameters = _parse(header)
        # The example says `sig`, as all servers do; the list of parameters says `signature`.
        signature = parameters.get("sig") or parameters.get("signature")
        origin, key_id = parameters.get("origin"), parameters.get("key")
        if not origin or not key_id or not signature:
            raise NotAuthentic("the header lacks an origin, a key or a signature")
        return cls(origin, key_id, signature, parameters.get("destination"))


def authorization(
    key: SigningKey,
    *,
    origin: str,
    destination: str,
    method: str,
    uri: str,
    content: Any = NO_CONTENT,
    destination_field: str = "destination",
) -> str:
    """The ``Authorization`` header for a request of ours.

    ``uri`` is the path with its query, exactly as sent; ``destination_field``: under which name ``destination`` is
    signed. Raises ``NotCanonical`` if ``content`` cannot be signed.
    """
    signed = _signed_object(method, uri, content) | {"origin": origin, destination_field: destination}
    return Credentials(origin, key.key_id, key.signature(signed), destination).header()


async def verify_request(
    header: str | None,
    *,
    method: str,
    uri: str,
    content: Any = NO_CONTENT,
    our_names: Collection[str],
    key_for: KeyFor,
    destination_fields: Collection[str] = ("destination", "destination_is"),
    lenient: bool = False,
) -> str:
    """The name of the server that signed the request. Raises ``NotAuthentic``.

    ``uri`` is the path with its query, exactly as received. Synapse signs what it sends to an identity server with
    ``destination_is`` in place of ``destination``; a server that hears only from its like may insist on the latter.
    ``lenient``: whether the content may hold what canonical JSON forbids, for others to refuse.
    """
    credentials = Credentials.parse(header or "")
    try:
        split_server_name(credentials.origin)
    except ValueError as error:
        raise NoServerName("the origin is no server name") from error
    if credentials.destination is not None and credentials.destination not in our_names:
        raise NotAuthentic("the request is meant for another server")
    if not credentials.key_id.startswith(f"{ALGORITHM}:"):
        raise NotAuthentic("the key is of an unknown algorithm")
    try:
        key = await key_for(credentials.origin, credentials.key_id)
    except UnknownKey as error:
        raise NotAuthentic(str(error)) from error
    signed = _signed_object(method, uri, content) | {
        "origin": credentials.origin,
        "signatures": {credentials.origin: {credentials.key_id: credentials.signature}},
    }
    for name in our_names if credentials.destination is None else (credentials.destination,):
        for field in destination_fields:
            if _is_signed(signed | {field: name}, credentials.origin, key, lenient):
                return credentials.origin
    raise NotAuthentic("the signature is wrong")


def _signed_object(method: str, uri: str, content: Any) -> dict[str, Any]:
    without_content = {"method": method, "uri": uri}
    return without_content if content is NO_CONTENT else {**without_content, "content": content}


def _is_signed(signed: Mapping[str, Any], origin: str, key: VerifyKey, lenient: bool) -> bool:
    try:
        verify_json(signed, origin, key, encode=lenient_json if lenient else canonical_json)
    except InvalidSignature:
        return False
    return True


def _parse(header: str) -> dict[str, str]:
    """The parameters by lower-case name (RFC 9110, section 11.4)."""
    credentials = _CREDENTIALS.fullmatch(header.strip(" \t"))
    if credentials is None or credentials["scheme"].lower() != SCHEME.lower():
        raise NotAuthentic(f"the request bears no {SCHEME} credentials")
    listed = credentials["parameters"].lstrip(" \t,")
    parameters: dict[str, str] = {}
    position = 0
    while position < len(listed):
        parameter = _PARAMETER.match(listed, position)
        if parameter is None:
            raise NotAuthentic("the header cannot be read")
        name = parameter["name"].lower()
        if name in parameters:
            raise NotAuthentic(f"the header says {name} twice")
        parameters[name] = (
            parameter["plain"] if parameter["plain"] is not None else _ESCAPED.sub(r"\1", parameter["quoted"])
        )
        position = parameter.end()
    return parameters


def _quoted(value: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'
