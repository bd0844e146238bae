"""Passwords as Argon2id hashes, computed beside the event loop: each takes tens of milliseconds and 64 MiB."""

import asyncio
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Annotated

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from identity_server.matrix.errors import MatrixError, MissingParam
from identity_server.runtime.dependencies import opened
from identity_server.runtime.tokens import Entropy

_SALT_BYTES = 16


class WeakPassword(MatrixError):
    errcode = "M_WEAK_PASSWORD"


class Passwords:
    def __init__(self, entropy: Entropy, hasher: PasswordHasher | None = None, *, at_once: int = 2) -> None:
        self._entropy = entropy
        self._hasher = hasher or PasswordHasher()
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="passwords")

    async def hash(self, password: str) -> str:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._hash, password)

    async def matches(self, password: str, hashed: str | None) -> bool:
        """False for ``None``, after as long as with a hash: the answer's delay does not tell who has an account."""
        matches = await asyncio.get_running_loop().run_in_executor(self._pool, self._matches, password, hashed)
        return matches and hashed is not None

    def is_outdated(self, hashed: str) -> bool:
        """Whether it was made with other parameters than those in use."""
        return self._hasher.check_needs_rehash(hashed)

    def close(self) -> None:
        self._pool.shutdown()

    def _hash(self, password: str) -> str:
        return self._hasher.hash(_normal(password), salt=self._entropy.bytes(_SALT_BYTES))

    @cached_property
    def _nobodys_hash(self) -> str:
        return self._hash(self._entropy.token(_SALT_BYTES))

    def _matches(self, password: str, hashed: str | None) -> bool:
        try:
            return self._hasher.verify(self._nobodys_hash if hashed is None else hashed, _normal(password))
        except (VerificationError, InvalidHashError):
            return False


OpenPasswords = Annotated[Passwords, opened("passwords")]


async def hash_new(passwords: Passwords, password: str | None) -> str:
    """The hash of a password that somebody chose. Raises ``MissingParam`` and ``WeakPassword``."""
    if password is None:
        raise MissingParam("A password is required")
    if not password:
        raise WeakPassword("The password is empty")
    return await passwords.hash(password)


def _normal(password: str) -> bytes:
    # One keyboard types é as one character, another as two.
    return unicodedata.normalize("NFKC", password).encode()
