"""What goes over Sydent's wire, both ways: pure.

A batch maps the origin's ids, as decimal strings, to statements that the origin signed one by one:
``{"sgAssocs": {"1": {"medium": …, "signatures": {"<origin>": {"ed25519:0": …}}}}}``.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from identity_server.identity.associations.statement import Statement
from identity_server.identity.signing.keyring import Keyring
from identity_server.matrix.canonical_json import LARGEST_INTEGER
from identity_server.matrix.errors import BadJson, MatrixError
from identity_server.matrix.identifiers import Text
from identity_server.matrix.signing import InvalidSignature, VerifyKey, is_signed
from identity_server.matrix.threepid import Threepid, canonical

PATH = "/_matrix/identity/replicate/v1/push"
KEY_ID = "ed25519:0"
"""The one key that Sydent signs with, and verifies."""
MAX_BATCH = 100

_ID = re.compile(r"[1-9][0-9]{0,15}")


class VerificationFailed(MatrixError):
    """Nothing of the batch is taken; ``failed_ids`` says because of which items."""

    errcode = "M_VERIFICATION_FAILED"


_Whole = Annotated[int, Field(ge=-LARGEST_INTEGER, le=LARGEST_INTEGER)]


class _Item(BaseModel):
    # All six fields stand in a tombstone too; what else there may be is signed as well, and means nothing to us.
    model_config = ConfigDict(strict=True, extra="ignore")

    medium: Annotated[Text, Field(max_length=64)]
    address: Annotated[Text, Field(max_length=512)]
    mxid: Annotated[Text, Field(max_length=255)] | None
    ts: _Whole
    not_before: _Whole | None
    not_after: _Whole | None


def batch_json(items: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
    return {"sgAssocs": {str(number): item for number, item in items.items()}}


def signed_item(statement: Statement, keyring: Keyring) -> dict[str, Any]:
    """Signed with our current key, and with the one that Sydent looks for."""
    return keyring.sign(statement.as_json(), KEY_ID)


def read_batch(body: Mapping[str, Any], origin: str, keys: Sequence[VerifyKey]) -> list[tuple[int, Statement]]:
    """What ``origin`` states, in the order of its ids. Raises ``BadJson`` or ``VerificationFailed``."""
    items = body.get("sgAssocs")
    if not isinstance(items, dict):
        raise BadJson("sgAssocs must be an object")
    if not all(_ID.fullmatch(key) and int(key) <= LARGEST_INTEGER for key in items):
        raise BadJson("The ids in sgAssocs must be whole numbers")
    statements, failed = [], []
    for number in sorted(map(int, items)):
        try:
            statements.append((number, _read_item(items[str(number)], origin, keys)))
        except (ValidationError, InvalidSignature):
            failed.append(str(number))
    if failed:
        raise VerificationFailed("Some associations are malformed or not signed by the peer", failed_ids=failed)
    return statements


def failed_ids(answer: Any, sent: Iterable[int]) -> set[int]:
    """Which of the ids that were ``sent`` the peer refuses, by its answer; none if that says nothing of the kind."""
    listed = answer.get("failed_ids") if isinstance(answer, dict) else None
    refused = {str(number) for number in listed} if isinstance(listed, list) else set()
    return {number for number in sent if str(number) in refused}


def _read_item(item: Any, origin: str, keys: Sequence[VerifyKey]) -> Statement:
    """Raises ``ValidationError`` or ``InvalidSignature``."""
    read = _Item.model_validate(item)
    if not is_signed(item, origin, keys):
        raise InvalidSignature("by no key that we hold of the peer")
    return Statement(_threepid(read.medium, read.address), read.mxid, read.ts, read.not_before, read.not_after)


def _threepid(medium: str, address: str) -> Threepid:
    # Sydent before 2.4 does not fold the case of addresses. What has no canonical form the rules will object to.
    try:
        return canonical(medium, address)
    except MatrixError:
        return Threepid(medium, address)
