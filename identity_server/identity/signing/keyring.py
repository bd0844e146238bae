"""The server's long-term keys: several at once, the newest of which signs."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from identity_server.matrix.signing import ALGORITHM, SigningKey, decode_key, sign_json
from identity_server.runtime.dependencies import opened
from identity_server.runtime.tokens import Entropy

_SEED_BYTES = 32


class BadKeyFile(ValueError):
    """The key file cannot be read, or is readable by others."""


@dataclass(frozen=True)
class Keyring:
    """What ``server_name`` signs with. Older keys stay, so that what they signed can be verified."""

    server_name: str
    keys: tuple[SigningKey, ...]

    @property
    def current(self) -> SigningKey:
        return self.keys[-1]

    def sign(self, json_object: Mapping[str, Any], key_id: str | None = None) -> dict[str, Any]:
        """A signed copy of ``json_object``: by the current key, and by our older key ``key_id`` too."""
        signed = sign_json(json_object, self.server_name, self.current)
        older = self.find(key_id) if key_id and key_id != self.current.key_id else None
        return sign_json(signed, self.server_name, older) if older else signed

    def find(self, key_id: str) -> SigningKey | None:
        return next((key for key in self.keys if key.key_id == key_id), None)

    def holds(self, public_key: str) -> bool:
        """Whether ``public_key`` (base64, either alphabet) is one of ours."""
        try:
            wanted = decode_key(public_key)
        except ValueError:
            return False
        return any(key.key.verify_key.encode() == wanted for key in self.keys)


OpenKeyring = Annotated[Keyring, opened("keyring")]


def read_keys(file: Path) -> tuple[SigningKey, ...]:
    """The keys in ``file``, oldest first; a line each, "ed25519 <version> <seed>". Raises ``BadKeyFile``."""
    keys = []
    for line in file.read_text().splitlines():
        match line.split():
            case [algorithm, version, seed] if algorithm == ALGORITHM:
                try:
                    keys.append(SigningKey.from_seed(f"{ALGORITHM}:{version}", decode_key(seed)))
                except ValueError as error:
                    raise BadKeyFile(f"{file} holds a malformed key") from error
            case []:
                continue
            case _:
                raise BadKeyFile(f"{file} has a line that is no key")
    if not keys:
        raise BadKeyFile(f"{file} holds no key")
    return tuple(keys)


def generate_key(file: Path, entropy: Entropy) -> SigningKey:
    """Add a key to ``file``, which is made if need be, for its owner's eyes only. The first is ``ed25519:0``."""
    held = read_keys(file) if file.exists() else ()
    versions = [int(key.key_id.partition(":")[2]) for key in held if key.key_id.partition(":")[2].isdecimal()]
    key = SigningKey.from_seed(f"{ALGORITHM}:{max(versions, default=-1) + 1}", entropy.bytes(_SEED_BYTES))
    write_keys(file, (*held, key))
    return key


def write_keys(file: Path, keys: tuple[SigningKey, ...]) -> None:
    """Replace ``file`` as a whole, so that no crash leaves half a key."""
    lines = [f"{ALGORITHM} {key.key_id.partition(':')[2]} {key.seed_base64}\n" for key in keys]
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
        handle.writelines(lines)
        handle.flush()
        os.fsync(handle.fileno())
    draft.replace(file)


def load_keyring(server_name: str, file: Path, entropy: Entropy) -> Keyring:
    """The keyring in ``file``, with a first key if there is none yet."""
    if not file.exists():
        generate_key(file, entropy)
    return Keyring(server_name, read_keys(file))
