"""The server's long-term keys: several at once, the newest of which signs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from identity_server.matrix.signing import SigningKey, decode_key, sign_json
from identity_server.runtime.dependencies import opened
from identity_server.runtime.key_files import generate_key, read_keys
from identity_server.runtime.tokens import Entropy


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


def load_keyring(server_name: str, file: Path, entropy: Entropy) -> Keyring:
    """The keyring in ``file``, with a first key, ``ed25519:0``, if there is none yet. Raises ``BadKeyFile``."""
    if not file.exists():
        generate_key(file, entropy)
    return Keyring(server_name, read_keys(file))
