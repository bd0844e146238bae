"""Randomness as an argument, its fake, and the form in which secrets are stored."""

import hashlib
import random
import secrets
import string
from typing import Protocol

ALPHANUMERIC = string.ascii_letters + string.digits


class Entropy(Protocol):
    def token(self, length: int, alphabet: str = ALPHANUMERIC) -> str:
        """``length`` characters drawn evenly from ``alphabet``."""

    def bytes(self, length: int) -> bytes: ...


class SystemEntropy:
    def token(self, length: int, alphabet: str = ALPHANUMERIC) -> str:
        return "".join(secrets.choice(alphabet) for _ in range(length))

    def bytes(self, length: int) -> bytes:
        return secrets.token_bytes(length)


class FakeEntropy:
    """The same values for the same ``seed``."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)  # noqa: S311 (a fake: foreseeable is the point)

    def token(self, length: int, alphabet: str = ALPHANUMERIC) -> str:
        return "".join(self._random.choices(alphabet, k=length))

    def bytes(self, length: int) -> bytes:
        return self._random.randbytes(length)


def token_hash(token: str) -> bytes:
    """What is stored in place of a secret token: its SHA-256."""
    return hashlib.sha256(token.encode()).digest()
