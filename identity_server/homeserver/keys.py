"""What the homeserver signs with (Server-Server API, "Retrieving server keys")."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from identity_server.matrix.signing import SigningKey, sign_json
from identity_server.runtime.dependencies import opened
from identity_server.runtime.key_files import generate_key, read_keys
from identity_server.runtime.tokens import Entropy

_VERSION_LENGTH = 6


@dataclass(frozen=True)
class ServerKeys:
    """The keys of ``server_name``, oldest first, all of them valid."""

    server_name: str
    keys: tuple[SigningKey, ...]

    def publication(self, *, valid_until_ts: int) -> dict[str, Any]:
        """The object that other servers fetch, signed by every key in it."""
        published: dict[str, Any] = {
            "server_name": self.server_name,
            "verify_keys": {key.key_id: {"key": key.verify_key.base64} for key in self.keys},
            "old_verify_keys": {},
            "valid_until_ts": valid_until_ts,
        }
        for key in self.keys:
            published = sign_json(published, self.server_name, key)
        return published


OpenServerKeys = Annotated[ServerKeys, opened("server_keys")]


def load_server_keys(server_name: str, file: Path, entropy: Entropy) -> ServerKeys:
    """The keys in ``file``, with a first one if there is none yet. Raises ``BadKeyFile``."""
    if not file.exists():
        # Others remember a key by its ID: one made after the file was lost must not bear the lost one's.
        generate_key(file, entropy, version=f"a_{entropy.token(_VERSION_LENGTH)}")
    return ServerKeys(server_name, read_keys(file))
