"""A page of a log as it travels: what stands behind a position, and the signed tree head that vouches for it.

Nothing in a page is signed by itself. The head is the root of the Merkle tree up to the page's last entry, signed with
the origin's long-term key; whoever holds the tree up to the position before the page can recompute it. So a page that
was tampered with, or a history that was rewritten, does not fit.
"""

import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple, NotRequired

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict
from unpaddedbase64 import decode_base64, encode_base64

from identity_server.identity.associations.merkle import Peaks
from identity_server.identity.associations.statement import Statement, log_entry
from identity_server.identity.signing.keyring import Keyring
from identity_server.matrix.canonical_json import LARGEST_INTEGER
from identity_server.matrix.errors import BadJson
from identity_server.matrix.threepid import Threepid

MAX_ENTRIES = 10_000


class Entry(NamedTuple):
    nonce: bytes
    statement: Statement


class TreeHead(NamedTuple):
    """``signed``: as JSON, with the origin's signatures."""

    size: int
    root: bytes
    ts: int
    signed: dict[str, Any]


@dataclass(frozen=True)
class Page:
    """The entries of ``origin``'s log at the positions ``after + 1`` and on."""

    origin: str
    after: int
    entries: Sequence[Entry]
    head: TreeHead

    def as_json(self) -> dict[str, Any]:
        entries = [{"nonce": encode_base64(entry.nonce), **entry.statement.as_json()} for entry in self.entries]
        return {"origin": self.origin, "after": self.after, "entries": entries, "head": self.head.signed}

    def extend(self, peaks: Peaks) -> Peaks:
        """``peaks``, the tree up to a position within the page, with the page's later entries. No check is made."""
        new = self.entries[peaks.size - self.after :]
        return peaks.extended(
            log_entry(self.origin, position, entry.statement, entry.nonce)
            for position, entry in enumerate(new, start=peaks.size + 1)
        )[0]


def sign_head(keyring: Keyring, peaks: Peaks, now_ms: int) -> dict[str, Any]:
    return keyring.sign(
        {
            "origin": keyring.server_name,
            "tree_size": peaks.size,
            "root_hash": encode_base64(peaks.root),
            "ts": now_ms,
        }
    )


# No longer than what an index of PostgreSQL's takes, and without the one character that it does not store.
_STORABLE = r"^[^\x00]*$"
_Integer = Annotated[int, Field(ge=-LARGEST_INTEGER, le=LARGEST_INTEGER)]


class _EntryJson(TypedDict):
    nonce: Annotated[str, StringConstraints(max_length=1000)]
    medium: Annotated[str, StringConstraints(max_length=64, pattern=_STORABLE)]
    address: Annotated[str, StringConstraints(max_length=512, pattern=_STORABLE)]
    mxid: Annotated[str, StringConstraints(max_length=255, pattern=_STORABLE)] | None
    ts: _Integer
    not_before: _Integer | None
    not_after: _Integer | None


class _HeadJson(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")

    origin: str
    tree_size: int = Field(ge=0)
    root_hash: str
    ts: int = Field(ge=0)


@with_config(strict=True, extra="allow")
class _SignedJson(TypedDict):
    signatures: NotRequired[dict[str, dict[str, str]]]


class _PageJson(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore")

    origin: str
    after: int = Field(ge=0)
    entries: list[_EntryJson] = Field(max_length=MAX_ENTRIES)
    head: _SignedJson


def read_page(body: Any, origin: str) -> Page:
    """The page in a JSON object that ``origin`` sent. Its head's signature is not checked here. Raises ``BadJson``."""
    try:
        page = _PageJson.model_validate(body)
        head = read_head(page.head)
        entries = [
            Entry(
                _nonce(entry["nonce"]),
                Statement(
                    Threepid(entry["medium"], entry["address"]),
                    entry["mxid"],
                    entry["ts"],
                    entry["not_before"],
                    entry["not_after"],
                ),
            )
            for entry in page.entries
        ]
    except (ValidationError, ValueError) as error:
        raise BadJson("The page is malformed") from error
    if page.origin != origin or head.signed["origin"] != origin:
        raise BadJson("A peer speaks in its own name only")
    if head.size != page.after + len(entries):
        raise BadJson("The tree head is not that of the page's last entry")
    return Page(origin, page.after, entries, head)


def read_head(body: Any) -> TreeHead:
    """Raises ``ValueError`` for what is no tree head."""
    head = _HEAD.validate_python(body)
    return TreeHead(head.tree_size, decode_base64(head.root_hash), head.ts, body)


_HEAD = TypeAdapter(_HeadJson)


def _nonce(base64: str) -> bytes:
    """Raises ``ValueError``. There is one in every entry: a fifth of the time that ``decode_base64`` takes."""
    return binascii.a2b_base64(base64 + "=" * (-len(base64) % 4))
