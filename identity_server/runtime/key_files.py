"""Signing keys on disk: one line each, "ed25519 <version> <seed>", oldest first, for their owner's eyes only."""

import os
from pathlib import Path

from identity_server.matrix.signing import ALGORITHM, SigningKey, decode_key
from identity_server.runtime.tokens import Entropy

_SEED_BYTES = 32


class BadKeyFile(ValueError):
    """The key file cannot be read, or holds something else."""


def read_keys(file: Path) -> tuple[SigningKey, ...]:
    """The keys in ``file``, oldest first. Raises ``BadKeyFile``."""
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except UnicodeDecodeError as error:
        raise BadKeyFile(f"{file} is no text") from error
    keys = []
    for line in lines:
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


def generate_key(file: Path, entropy: Entropy, *, version: str | None = None) -> SigningKey:
    """Add a key to ``file``, which is made if need be; without a ``version`` they are counted from 0."""
    held = read_keys(file) if file.exists() else ()
    counted = [int(key.key_id.partition(":")[2]) for key in held if key.key_id.partition(":")[2].isdecimal()]
    version = version or str(max(counted, default=-1) + 1)
    key = SigningKey.from_seed(f"{ALGORITHM}:{version}", entropy.bytes(_SEED_BYTES))
    write_keys(file, (*held, key))
    return key


def write_keys(file: Path, keys: tuple[SigningKey, ...]) -> None:
    lines = [f"{ALGORITHM} {key.key_id.partition(':')[2]} {key.seed_base64}\n" for key in keys]
    write_secret(file, "".join(lines).encode())


def write_secret(file: Path, content: bytes) -> None:
    """Replace ``file`` as a whole, so that no crash leaves half a key; nobody but its owner may read it."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = file.with_suffix(".new")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    draft.replace(file)
