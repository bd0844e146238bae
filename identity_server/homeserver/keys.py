"""What the homeserver signs with (Server-Server API, "Retrieving server keys")."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from identity_server.matrix.signing import SigningKey
from identity_server.runtime.dependencies import opened
from identity_server.runtime.key_files import generate_key, read_keys
from identity_server.runtime.tokens import Entropy

_VERSION_LENGTH = 6


@dataclass(frozen=True)
class ServerKeys:
    """The keys of ``server_name``, oldest first, all of them valid."""

    server_name: str
    keys: tuple[SigningKey, ...]


OpenServerKeys = Annotated[ServerKeys, opened("server_keys")]


def load_server_keys(server_name: str, file: Path, entropy: Entropy) -> ServerKeys:
    """The keys in ``file``, with a first one if there is none yet. Raises ``BadKeyFile``."""
    if not file.exists():
        # Others remember a key by its ID: one made after the file was lost must not bear the lost one's.
        generate_key(file, entropy, version=f"a_{entropy.token(_VERSION_LENGTH)}")
    return ServerKeys(server_name, read_keys(file))
