"""What the homeserver signs with (Server-Server API, "Retrieving server keys").

A key that signs no more stands in ``signing.old`` beside the others: "ed25519 <version> <public key> <expired_ts>".
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from identity_server.matrix.server_keys import OldVerifyKey, UnknownKey
from identity_server.matrix.signing import ALGORITHM, SigningKey, VerifyKey
from identity_server.runtime.dependencies import opened
from identity_server.runtime.key_files import BadKeyFile, generate_key, read_keys
from identity_server.runtime.tokens import Entropy

_VERSION_LENGTH = 6
_OLD_SUFFIX = ".old"


@dataclass(frozen=True)
class ServerKeys:
    """The keys of ``server_name``, oldest first, all of them valid, and those that were."""

    server_name: str
    keys: tuple[SigningKey, ...]
    old_keys: tuple[OldVerifyKey, ...] = ()

    def verify_key(self, key_id: str) -> VerifyKey:
        """The key that checks what we signed. Raises ``UnknownKey``."""
        for key in (*(key.verify_key for key in self.keys), *(old.verify_key for old in self.old_keys)):
            if key.key_id == key_id:
                return key
        raise UnknownKey(f"we never had a key {key_id}")


OpenServerKeys = Annotated[ServerKeys, opened("server_keys")]


def load_server_keys(server_name: str, file: Path, entropy: Entropy) -> ServerKeys:
    """The keys in ``file``, with a first one if there is none yet. Raises ``BadKeyFile``."""
    if not file.exists():
        # Others remember a key by its ID: one made after the file was lost must not bear the lost one's.
        generate_key(file, entropy, version=f"a_{entropy.token(_VERSION_LENGTH)}")
    return ServerKeys(server_name, read_keys(file), _read_old_keys(file.with_suffix(_OLD_SUFFIX)))


def _read_old_keys(file: Path) -> tuple[OldVerifyKey, ...]:
    if not file.exists():
        return ()
    keys = []
    for line in file.read_text(encoding="ascii", errors="replace").splitlines():
        match line.split():
            case [algorithm, version, public_key, expired_ts] if algorithm == ALGORITHM and expired_ts.isdecimal():
                try:
                    key = VerifyKey.from_base64(f"{ALGORITHM}:{version}", public_key)
                except ValueError as error:
                    raise BadKeyFile(f"{file} holds a malformed key") from error
                keys.append(OldVerifyKey(key, int(expired_ts)))
            case []:
                continue
            case _:
                raise BadKeyFile(f"{file} has a line that is no old key")
    return tuple(keys)
