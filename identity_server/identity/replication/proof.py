"""A consistency proof as it travels: signed, so that one that does not hold is evidence against who gave it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from unpaddedbase64 import decode_base64, encode_base64

from identity_server.identity.signing.keyring import Keyring


class Proof(NamedTuple):
    """That the tree of ``first`` entries is the beginning of that of ``second``. ``signed``: as JSON."""

    first: int
    second: int
    path: Sequence[bytes]
    signed: dict[str, Any]


def sign_proof(keyring: Keyring, first: int, second: int, path: Sequence[bytes]) -> dict[str, Any]:
    hashes = [encode_base64(hash_) for hash_ in path]
    return keyring.sign({"origin": keyring.server_name, "first": first, "second": second, "path": hashes})


class _ProofJson(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")

    first: int
    second: int
    path: list[str] = Field(max_length=128)


_PROOF = TypeAdapter(_ProofJson)


def read_proof(body: Any) -> Proof:
    """Raises ``ValueError`` for what is no proof. Its signature is not checked here."""
    proof = _PROOF.validate_python(body)
    return Proof(proof.first, proof.second, [decode_base64(hash_) for hash_ in proof.path], body)
