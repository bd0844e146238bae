"""How addresses are hashed for lookup (Identity Service API, "sha256")."""

import hashlib
from base64 import urlsafe_b64encode

from identity_server.matrix.threepid import Threepid


def lookup_hash(address: str, medium: str, pepper: str) -> str:
    """URL-safe unpadded base64 of the SHA-256 of "<address> <medium> <pepper>"."""
    digest = hashlib.sha256(f"{address} {medium} {pepper}".encode()).digest()
    return urlsafe_b64encode(digest).decode()[:43]


def spellings(threepid: Threepid, spelling: str | None) -> tuple[str, ...]:
    """Every way in which clients write the address before they hash it: case-folded, and only lower-cased."""
    return (threepid.address,) if spelling is None else (threepid.address, spelling)
