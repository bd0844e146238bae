"""The log's Merkle tree at any of its sizes, and proofs about it (RFC 6962, section 2.1).

Only the roots of complete subtrees of some levels are stored; what lies below is hashed again from the log, at most a
few hundred entries for any answer.
"""

from typing import Protocol

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.associations import store
from identity_server.identity.associations.merkle import KEPT_LEVELS, Peaks, leaf_hash, node_hash
from identity_server.identity.associations.models import LogNode
from identity_server.identity.associations.statement import entry_nonce, log_entry


class Tree(Protocol):
    """What proofs are made of."""

    async def range_root(self, start: int, end: int) -> bytes:
        """As ``TreeReader.range_root``."""


class TreeReader:
    """Subtrees of the log of ``origin``, which is us; read once each."""

    def __init__(self, session: AsyncSession, origin: str, secret: bytes) -> None:
        self._session = session
        self._origin = origin
        self._secret = secret

    async def complete(self, level: int, number: int) -> bytes:
        """The root of the ``number``-th subtree of ``2^level`` leaves, all of which exist."""
        if level in KEPT_LEVELS:
            found = await self._nodes(level, number, number + 1)
            return found[0]
        below = max((kept for kept in KEPT_LEVELS if kept < level), default=0)
        width = 1 << (level - below)
        first = number * width
        hashes = await (self._nodes(below, first, first + width) if below else self._leaves(first, first + width))
        while len(hashes) > 1:
            hashes = [node_hash(*pair) for pair in zip(hashes[::2], hashes[1::2], strict=True)]
        return hashes[0]

    async def range_root(self, start: int, end: int) -> bytes:
        """MTH(D[start:end]); ``start`` is a multiple of the largest power of two below ``end - start``, or so."""
        peaks = []
        while start < end:
            level = (end - start).bit_length() - 1
            peaks.append(await self.complete(level, start >> level))
            start += 1 << level
        root = peaks.pop()
        while peaks:
            root = node_hash(peaks.pop(), root)
        return root

    async def _leaves(self, start: int, end: int) -> list[bytes]:
        entries = await store.log_page(self._session, after=start, limit=end - start)
        return [
            leaf_hash(
                log_entry(
                    self._origin,
                    entry.position,
                    entry.statement,
                    entry_nonce(self._secret, entry.position),
                )
            )
            for entry in entries
        ]

    async def _nodes(self, level: int, start: int, end: int) -> list[bytes]:
        rows = await self._session.scalars(
            select(LogNode.hash)
            .where(LogNode.level == level, LogNode.number >= start, LogNode.number < end)
            .order_by(LogNode.number)
        )
        return list(rows)


async def open_tree(session: AsyncSession, origin: str) -> TreeReader:
    return TreeReader(session, origin, (await store.head(session)).secret)


async def peaks_at(session: AsyncSession, size: int, origin: str) -> Peaks:
    """The tree as it was when the log had ``size`` entries."""
    tree = await open_tree(session, origin)
    hashes, start = [], 0
    while start < size:
        level = (size - start).bit_length() - 1
        hashes.append(await tree.complete(level, start >> level))
        start += 1 << level
    return Peaks(size, tuple(hashes))


async def inclusion_proof(tree: Tree, index: int, size: int) -> list[bytes]:
    """PATH(index, D[size]): the hashes that lead from the entry at ``index`` (from 0) to the root (section 2.1.1)."""

    async def path(m: int, start: int, end: int) -> list[bytes]:
        if end - start == 1:
            return []
        half = _split(end - start)
        if m < half:
            return [*await path(m, start, start + half), await tree.range_root(start + half, end)]
        return [*await path(m - half, start + half, end), await tree.range_root(start, start + half)]

    return await path(index, 0, size)


async def consistency_proof(tree: Tree, first: int, second: int) -> list[bytes]:
    """PROOF(first, D[second]): that the tree of ``first`` entries is the beginning of that of ``second`` (2.1.2)."""

    async def subproof(m: int, start: int, end: int, known: bool) -> list[bytes]:
        if m == end - start:
            return [] if known else [await tree.range_root(start, end)]
        half = _split(end - start)
        if m <= half:
            return [*await subproof(m, start, start + half, known), await tree.range_root(start + half, end)]
        return [*await subproof(m - half, start + half, end, False), await tree.range_root(start, start + half)]

    return [] if first in (0, second) else await subproof(first, 0, second, True)


def _split(count: int) -> int:
    """The largest power of two below ``count``."""
    return 1 << ((count - 1).bit_length() - 1)
