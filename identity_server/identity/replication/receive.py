"""Who is it that speaks, and what it says: authentication of peers and of their pages."""

import asyncio
import contextlib

from identity_server.identity.replication import store
from identity_server.identity.replication.client import PeerClient, PeerRefused
from identity_server.identity.replication.keys import BadKeys, follow_keys
from identity_server.identity.replication.models import NATIVE, Peer
from identity_server.identity.replication.page import Page
from identity_server.identity.replication.take import Checked, Standing, Taken, UnknownPeer, check, take_page
from identity_server.matrix.errors import Forbidden
from identity_server.matrix.http import Unreachable
from identity_server.matrix.server_keys import UnknownKey
from identity_server.matrix.signing import VerifyKey, is_signed
from identity_server.matrix.single_flight import SingleFlight
from identity_server.runtime.bulk import uncollected
from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database

_PAUSE_MS = 10_000


class Peers:
    """The peers as they are now: who they are, with which keys. Each is asked for them at most once in 10 seconds."""

    def __init__(self, database: Database, client: PeerClient, clock: Clock, *, max_skew_ms: int) -> None:
        self._database = database
        self._client = client
        self._clock = clock
        self._max_skew_ms = max_skew_ms
        self._ask_again_ts: dict[str, int] = {}
        self._flights: SingleFlight[str, None] = SingleFlight()

    async def trusted(self, name: str) -> Peer:
        """Raises ``UnknownPeer`` for one that we have not, or no longer believe."""
        async with self._database.reading() as session:
            peer = await store.find_peer(session, name)
        if peer is None or peer.protocol != NATIVE or not peer.is_trusted(self._clock.now_ms()):
            raise UnknownPeer("This server does not replicate with yours")
        return peer

    async def heard(self, name: str) -> None:
        """The peer is up: what is owed to it need not wait for the end of a pause."""
        if (await self.trusted(name)).next_try_ts:
            async with self._database.transaction() as session:
                await store.change_peer(session, name, next_try_ts=0)

    async def key(self, name: str, key_id: str) -> VerifyKey:
        """The peer's key; one that we have not seen may be announced by one that we have. Raises ``UnknownKey``."""
        peer = await self.trusted(name)
        known = await self._known(name, key_id)
        if known is None and self._clock.now_ms() >= self._ask_again_ts.get(name, 0):
            await self._flights.run(name, lambda: self._ask_for_keys(peer))
            known = await self._known(name, key_id)
        if known is None:
            raise UnknownKey("the peer does not publish this key")
        return known

    async def _ask_for_keys(self, peer: Peer) -> None:
        # Whoever claims to be the peer, with a key that he has invented, lets us ask: so not at once again.
        with contextlib.suppress(Unreachable, PeerRefused, BadKeys):
            published = await self._client.keys(peer.base_url)
            async with self._database.transaction() as session:
                await follow_keys(session, peer.name, published, now_ms=self._clock.now_ms())
        self._ask_again_ts[peer.name] = self._clock.now_ms() + _PAUSE_MS

    async def check(self, page: Page, on: Checked | None = None) -> Checked:
        """What the page comes to on top of what we have of the peer's log, or of a page that is being taken (``on``).

        Raises ``Forbidden`` or ``UnknownPeer``.
        """
        standing = on.leaves if on else Standing.of(await self.trusted(page.origin))
        signers = page.head.signed.get("signatures", {}).get(page.origin, {})
        for key_id in list(signers)[:10]:
            try:
                key = await self.key(page.origin, key_id)
            except UnknownKey:
                continue
            if is_signed(page.head.signed, page.origin, [key]):
                break
        else:
            raise Forbidden("The tree head is not signed with a key of the peer")
        with uncollected():
            # Not on the loop: for thousands of entries it takes a while.
            return await asyncio.to_thread(check, page, standing, latest_ts=self._latest_ts(self._clock.now_ms()))

    async def take(self, page: Page, checked: Checked) -> Taken:
        """Take a page that was checked. Raises ``HistoryRewritten`` or ``UnknownPeer``."""
        now_ms = self._clock.now_ms()
        with uncollected():
            async with self._database.transaction() as session:
                return await take_page(session, page, checked, latest_ts=self._latest_ts(now_ms), now_ms=now_ms)

    def _latest_ts(self, now_ms: int) -> int:
        return now_ms + self._max_skew_ms

    async def _known(self, name: str, key_id: str) -> VerifyKey | None:
        async with self._database.reading() as session:
            return next((key for key in await store.peer_keys(session, name) if key.key_id == key_id), None)
