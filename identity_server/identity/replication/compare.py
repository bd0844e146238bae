"""Whether peers are shown the same logs as we are.

Each is asked for the newest tree heads that it holds of others. Of a peer that signed a head for somebody else and
another one for us, one must be the beginning of the other: if they are of one size they have one root, else the peer
has to prove it. Whoever shows different histories to different peers signs the evidence against itself.
"""

from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.associations.merkle import Peaks, is_consistent
from identity_server.identity.replication import store
from identity_server.identity.replication.alarm import raise_alarm
from identity_server.identity.replication.client import PeerClient, PeerRefused
from identity_server.identity.replication.models import NATIVE, Peer
from identity_server.identity.replication.page import TreeHead, read_head
from identity_server.matrix.http import Unreachable
from identity_server.matrix.signing import is_signed
from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database

_ANOTHER_HISTORY = "it has shown another history to others"
_MAX_HEADS = 1_000


async def heads_we_hold(session: AsyncSession) -> dict[str, list[Any]]:
    """The newest head that each peer has signed for us."""
    return {"heads": [orjson.loads(peer.head) for peer in await store.peers(session) if peer.head]}


class Comparison:
    def __init__(self, database: Database, client: PeerClient, clock: Clock) -> None:
        self._database = database
        self._client = client
        self._clock = clock
        self._agreeing: dict[str, tuple[int, bytes]] = {}

    async def hear(self, peer: Peer) -> None:
        """Ask ``peer`` which heads it holds of others, and hold them against what we have. Raises ``Unreachable``."""
        try:
            heads = [read_head(head) for head in await self._client.heads(peer, at_most=_MAX_HEADS)]
        except (PeerRefused, ValueError):
            return  # it does not take part in this
        for head in heads:
            await self.consider(head)

    async def consider(self, head: TreeHead) -> None:
        """Raise the alarm if who signed ``head`` contradicts what it signed for us."""
        origin = str(head.signed["origin"])
        if self._agreeing.get(origin) == (head.size, head.root):
            return
        async with self._database.reading() as session:
            author = await store.find_peer(session, origin)
            keys = await store.peer_keys(session, origin)
        if author is None or author.protocol != NATIVE or not author.is_trusted(self._clock.now_ms()):
            return
        if not is_signed(head.signed, origin, keys):
            return  # of somebody's making, or with a key that we have still to hear of
        agrees = await self._agrees(author, head)
        if agrees:
            self._agreeing[origin] = (head.size, head.root)
        elif agrees is False:
            async with self._database.transaction() as session:
                await raise_alarm(session, origin, _ANOTHER_HISTORY)

    async def _agrees(self, author: Peer, head: TreeHead) -> bool | None:
        """None if that cannot be said now."""
        ours = Peaks.from_bytes(author.taken_position, author.taken_peaks)
        if not ours.size or not head.size:
            return None
        if head.size == ours.size:
            return head.root == ours.root
        (first, first_root), (second, second_root) = sorted(((head.size, head.root), (ours.size, ours.root)))
        try:
            proof = await self._client.consistency(author, first, second)
        except (Unreachable, PeerRefused):
            return None
        async with self._database.reading() as session:
            keys = await store.peer_keys(session, author.name)
        # It could be anybody's on the way, or an answer to another question: then it says nothing against the peer.
        is_its_answer = (proof.signed.get("origin"), proof.first, proof.second) == (author.name, first, second)
        if not is_its_answer or not is_signed(proof.signed, author.name, keys):
            return None
        return is_consistent(first, second, first_root, second_root, proof.path)
