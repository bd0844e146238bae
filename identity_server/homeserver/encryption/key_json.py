"""Keys as they are uploaded, stored and shown: JSON that is kept as it came, in its canonical form."""

from collections.abc import Collection, Mapping
from typing import Any

import orjson

from identity_server.matrix.canonical_json import NotCanonical, canonical_json
from identity_server.matrix.errors import BadJson
from identity_server.matrix.signing import VerifyKey

ED25519 = "ed25519"

# What is stored is shown again inside other objects, and must not become too deep to be written there.
_DEEPEST = 100

Signatures = Mapping[str, Mapping[str, str]]
"""By signer and key ID."""


def stored(value: Any) -> str:
    """``value`` as canonical JSON, as whatever is signed has to be. Raises ``BadJson``."""
    _check_depth(value)
    try:
        return canonical_json(value).decode()
    except NotCanonical as error:
        raise BadJson(f"What is sent has no canonical form: {error}") from error


def opaque(value: Any) -> str:
    """``value`` as JSON that only clients have to understand. Raises ``BadJson``."""
    _check_depth(value)
    return orjson.dumps(value).decode()


def without_unsigned(keys: Mapping[str, Any]) -> dict[str, Any]:
    """``unsigned`` is what servers add."""
    return {name: value for name, value in keys.items() if name != "unsigned"}


def unsigned_form(keys: Mapping[str, Any]) -> dict[str, Any]:
    """What a signature covers."""
    return {name: value for name, value in keys.items() if name not in ("signatures", "unsigned")}


def shown(keys: str, added: Signatures, *, signers: Collection[str]) -> dict[str, Any]:
    """Stored keys with the signatures that were ``added`` later; of all, only those by ``signers`` are shown."""
    read: dict[str, Any] = orjson.loads(keys)
    signatures = {signer: dict(by_key) for signer, by_key in read.get("signatures", {}).items() if signer in signers}
    for signer, by_key in added.items():
        if signer in signers:
            signatures.setdefault(signer, {}).update(by_key)
    if signatures or "signatures" in read:
        read["signatures"] = signatures
    return read


def well_signed(keys: Mapping[str, Any]) -> bool:
    """Whether ``signatures``, if there are any, are strings by signer and key ID."""
    signatures = keys.get("signatures", {})
    return isinstance(signatures, dict) and all(
        isinstance(by_key, dict) and all(isinstance(signature, str) for signature in by_key.values())
        for by_key in signatures.values()
    )


def public_key(keys: Mapping[str, Any]) -> VerifyKey:
    """The only key of a cross-signing key. Raises ``BadJson``."""
    named = keys.get("keys")
    if not isinstance(named, dict) or len(named) != 1:
        raise BadJson("A cross-signing key has exactly one public key")
    ((key_id, public),) = named.items()
    algorithm, _, name = key_id.partition(":")
    if algorithm != ED25519 or name != public:
        raise BadJson("A cross-signing key is named ed25519:<its public key>")
    try:
        return VerifyKey.from_base64(key_id, public)
    except ValueError as error:
        raise BadJson("A cross-signing key is no Ed25519 key") from error


def device_key(keys: Mapping[str, Any], device_id: str) -> VerifyKey | None:
    """The key with which a device signs, if it has told a usable one."""
    key_id = f"{ED25519}:{device_id}"
    named = keys.get("keys")
    public = named.get(key_id) if isinstance(named, dict) else None
    try:
        return VerifyKey.from_base64(key_id, public) if isinstance(public, str) else None
    except ValueError:
        return None


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(_DEEPEST):
        level = [
            inner
            for item in level
            if isinstance(item, (dict, list))
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return
    raise BadJson("What is sent is nested too deeply")
