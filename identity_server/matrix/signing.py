"""Ed25519 keys and signed JSON (Appendices, "Signing JSON").

Signatures are made over our own canonical encoding, which is strict where canonicaljson is not.
"""

import binascii
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import nacl.exceptions
import nacl.signing
from unpaddedbase64 import encode_base64

from identity_server.matrix.canonical_json import canonical_json

ALGORITHM = "ed25519"


class InvalidSignature(Exception):
    """The signature is missing, malformed or wrong."""


@dataclass(frozen=True)
class VerifyKey:
    """A public key and its ID, such as ``ed25519:0``."""

    key_id: str
    key: nacl.signing.VerifyKey

    @property
    def base64(self) -> str:
        return str(encode_base64(self.key.encode()))

    @classmethod
    def from_base64(cls, key_id: str, public_key: str) -> "VerifyKey":
        """Raises ``ValueError`` if ``public_key`` is no key."""
        return cls(key_id, nacl.signing.VerifyKey(decode_key(public_key)))


@dataclass(frozen=True)
class SigningKey:
    """A key pair and its ID, such as ``ed25519:0``."""

    key_id: str
    key: nacl.signing.SigningKey

    @property
    def verify_key(self) -> VerifyKey:
        return VerifyKey(self.key_id, self.key.verify_key)

    @property
    def seed_base64(self) -> str:
        return str(encode_base64(self.key.encode()))

    @classmethod
    def from_seed(cls, key_id: str, seed: bytes) -> "SigningKey":
        """``seed``: 32 bytes."""
        return cls(key_id, nacl.signing.SigningKey(seed))

    def signature(self, json_object: Mapping[str, Any]) -> str:
        """The unpadded base64 signature of ``json_object`` without its ``signatures`` and ``unsigned``."""
        return str(encode_base64(self.key.sign(_signed_bytes(json_object)).signature))


def sign_json(json_object: Mapping[str, Any], signer: str, key: SigningKey) -> dict[str, Any]:
    """A copy of ``json_object`` with ``signer``'s signature added to those that it bears."""
    others = json_object.get("signatures", {})
    ours = {**others.get(signer, {}), key.key_id: key.signature(json_object)}
    return {**json_object, "signatures": {**others, signer: ours}}


def verify_json(
    json_object: Mapping[str, Any],
    signer: str,
    key: VerifyKey,
    *,
    encode: Callable[[Any], bytes] = canonical_json,
) -> None:
    """Raises ``InvalidSignature`` unless ``signer`` signed ``json_object``, encoded so, with ``key``."""
    try:
        signature = _decoded(json_object["signatures"][signer][key.key_id])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidSignature(f"no readable signature by {key.key_id}") from error
    try:
        key.key.verify(_signed_bytes(json_object, encode), signature)
    except (nacl.exceptions.BadSignatureError, nacl.exceptions.ValueError, ValueError) as error:
        raise InvalidSignature(f"wrong signature by {key.key_id}") from error


def is_signed(json_object: dict[str, Any], signer: str, keys: Iterable[VerifyKey]) -> bool:
    """Whether ``signer`` signed ``json_object`` with one of ``keys``."""
    for key in keys:
        try:
            verify_json(json_object, signer, key)
        except InvalidSignature:
            continue
        return True
    return False


def decode_key(base64: str) -> bytes:
    """The 32 bytes of a key in standard or URL-safe base64. Raises ``ValueError``."""
    decoded = _decoded(base64)
    if len(decoded) != 32:
        raise ValueError("an Ed25519 key has 32 bytes")
    return decoded


def _decoded(base64: str) -> bytes:
    """From either alphabet, padded or not. Raises ``ValueError``; unlike unpaddedbase64, which passes them over, also
    for characters of neither."""
    standard = base64.replace("-", "+").replace("_", "/")
    return binascii.a2b_base64(standard + "=" * (-len(standard) % 4), strict_mode=True)


def _signed_bytes(json_object: Mapping[str, Any], encode: Callable[[Any], bytes] = canonical_json) -> bytes:
    return encode({k: v for k, v in json_object.items() if k not in ("signatures", "unsigned")})
