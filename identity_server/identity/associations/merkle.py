"""The log as a Merkle tree (RFC 6962, section 2.1): pure.

A tree of n leaves is held as its peaks: the roots of the complete subtrees that the binary digits of n stand for,
largest first. Appending a leaf merges the peaks of equal size, as adding one carries over digits.

What is hashed into a leaf is a commitment to a statement, not the statement: whoever holds the tree, or a proof, learns
no address from it.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

HASH_BYTES = 32
# Roots of complete subtrees are kept at these levels (2^level leaves), so that any other is a few hundred hashes away.
KEPT_LEVELS = (8, 16, 24)

EMPTY_ROOT = hashlib.sha256().digest()


def commitment(nonce: bytes, statement: bytes) -> bytes:
    """What stands in the tree for ``statement``; to guess an address from it, one would have to guess ``nonce``."""
    return hashlib.sha256(nonce + statement).digest()


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class Node(NamedTuple):
    """The root of a complete subtree of ``2^level`` leaves, the ``number``-th of them (from 0)."""

    level: int
    number: int
    hash: bytes


@dataclass(frozen=True)
class Peaks:
    """A tree of ``size`` leaves."""

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    @classmethod
    def from_bytes(cls, size: int, packed: bytes) -> "Peaks":
        """Raises ``ValueError`` unless ``packed`` has one hash for each binary 1 of ``size``."""
        if len(packed) != HASH_BYTES * size.bit_count():
            raise ValueError("the peaks do not fit the size")
        return cls(size, tuple(packed[start : start + HASH_BYTES] for start in range(0, len(packed), HASH_BYTES)))

    def to_bytes(self) -> bytes:
        return b"".join(self.hashes)

    def extended(self, entries: Iterable[bytes]) -> tuple["Peaks", list[Node]]:
        """The tree with ``entries`` appended, and the subtrees of kept levels that they completed."""
        size, hashes = self.size, list(self.hashes)
        completed: list[Node] = []
        for entry in entries:
            hash_, level, rest = leaf_hash(entry), 0, size
            while rest & 1:
                hash_ = node_hash(hashes.pop(), hash_)
                level, rest = level + 1, rest >> 1
                if level in KEPT_LEVELS:
                    completed.append(Node(level, rest, hash_))
            hashes.append(hash_)
            size += 1
        return Peaks(size, tuple(hashes)), completed

    @property
    def root(self) -> bytes:
        """The Merkle tree hash."""
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for peak in reversed(self.hashes[:-1]):
            root = node_hash(peak, root)
        return root


def is_consistent(first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether ``proof`` shows that the tree of ``first`` leaves is the beginning of that of ``second`` (RFC 9162,
    section 2.1.4.2)."""
    if not 0 < first <= second:
        return False
    if first == second:
        return not proof and first_root == second_root
    path = [first_root, *proof] if first.bit_count() == 1 else list(proof)
    if not path:
        return False
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    fr = sr = path[0]
    for hash_ in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = node_hash(hash_, fr), node_hash(hash_, sr)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            sr = node_hash(sr, hash_)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and fr == first_root and sr == second_root
