"""Keeping level with every peer: what we stated goes to them at once, what they stated comes if it was missed.

Each peer has its own turn, so that one that is down or slow costs the others nothing; it is tried again after a
growing pause. Cursors are rows: a restart goes on where it stopped.
"""

import asyncio
from typing import Any

import structlog

from identity_server.identity.associations import store as associations
from identity_server.identity.replication import store
from identity_server.identity.replication.client import PeerClient, PeerRefused
from identity_server.identity.replication.compare import Comparison
from identity_server.identity.replication.log import page_of_ours
from identity_server.identity.replication.models import NATIVE, SYDENT, Peer
from identity_server.identity.replication.page import Page
from identity_server.identity.replication.receive import Peers
from identity_server.identity.replication.sydent.push import SydentPush
from identity_server.identity.replication.take import Checked
from identity_server.identity.signing.keyring import Keyring
from identity_server.matrix.errors import MatrixError
from identity_server.matrix.http import Unreachable
from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database
from identity_server.settings import ReplicationSettings

log = structlog.get_logger(__name__)

_PUSH_AT_ONCE = 500
# Whole subtrees of the log's tree: the peer has their roots at hand.
_PULL_AT_ONCE = 4_096
_LOOK_SECONDS = 0.2
_FIRST_PAUSE_MS = 1_000


class Exchange:
    def __init__(
        self,
        database: Database,
        client: PeerClient,
        sydent: SydentPush,
        peers: Peers,
        keyring: Keyring,
        clock: Clock,
        settings: ReplicationSettings,
    ) -> None:
        self._database = database
        self._client = client
        self._sydent = sydent
        self._peers = peers
        self._keyring = keyring
        self._clock = clock
        self._settings = settings
        self._comparison = Comparison(database, client, clock)
        self._pulled_ts: dict[str, int] = {}
        self._turns: dict[str, asyncio.Task[None]] = {}

    async def run(self, _now_ms: int) -> None:
        """Look once for peers to whom something is owed, and begin their turns."""
        async with self._database.reading() as session:
            peers = await store.peers(session)
            position = (await associations.head(session)).position
        now_ms = self._clock.now_ms()
        for peer in peers:
            if not peer.is_trusted(now_ms) or peer.next_try_ts > now_ms or not self._is_idle(peer.name):
                continue
            if peer.sent_position < position or self._pull_is_due(peer, now_ms):
                self._turns[peer.name] = asyncio.create_task(self._turn(peer))

    async def finish(self) -> None:
        """End the turns that are under way."""
        for turn in self._turns.values():
            turn.cancel()
        await asyncio.gather(*self._turns.values(), return_exceptions=True)

    def _is_idle(self, name: str) -> bool:
        return name not in self._turns or self._turns[name].done()

    def _pull_is_due(self, peer: Peer, now_ms: int) -> bool:
        pulled_ts = self._pulled_ts.get(peer.name, 0)
        # One that was removed and added again has its log taken from the beginning.
        is_old = pulled_ts < peer.added_ts or now_ms - pulled_ts >= self._settings.pull_interval
        return peer.protocol == NATIVE and is_old

    async def _turn(self, peer: Peer) -> None:
        try:
            if self._pull_is_due(peer, self._clock.now_ms()):
                await pull(peer, self._client, self._peers)
                await self._comparison.hear(peer)
                self._pulled_ts[peer.name] = self._clock.now_ms()
            await (self._sydent.push(peer) if peer.protocol == SYDENT else self._push(peer))
        except (Unreachable, PeerRefused, MatrixError) as error:
            await self._failed(peer, str(error))
        except Exception as error:
            log.error("replication failed", peer=peer.name, exc_info=error)
            await self._failed(peer, type(error).__name__)
        else:
            await self._change(peer, failures=0, last_error=None, next_try_ts=0, last_contact_ts=self._clock.now_ms())

    async def _push(self, peer: Peer) -> None:
        """Send what the peer has not got, page by page, until it has all or is trusted no more."""
        sent = peer.sent_position
        while True:
            now_ms = self._clock.now_ms()
            async with self._database.reading() as session:
                if not await store.is_trusted(session, peer.name, now_ms=now_ms):
                    return
                page = await page_of_ours(session, sent, _PUSH_AT_ONCE, keyring=self._keyring, now_ms=now_ms)
            if not page.entries:
                return
            answer = await self._client.push(peer, page.as_json())
            async with self._database.transaction() as session:
                # It may have pulled more meanwhile than it was sent.
                last = (await associations.head(session)).position
                position, reasons = _read_answer(answer, page, last)
                await store.set_aside(session, peer.name, reasons, of_ours=True, now_ms=self._clock.now_ms())
                await store.change_peer(session, peer.name, sent_position=position)
            if position <= sent:
                raise PeerRefused("it took nothing of what it was sent")
            sent = position

    async def _failed(self, peer: Peer, reason: str) -> None:
        failures = peer.failures + 1
        pause_ms = min(_FIRST_PAUSE_MS * 2 ** min(failures - 1, 20), self._settings.max_pause)
        await self._change(
            peer, failures=failures, last_error=reason[:500], next_try_ts=self._clock.now_ms() + pause_ms
        )

    async def _change(self, peer: Peer, **values: int | str | None) -> None:
        async with self._database.transaction() as session:
            await store.change_peer(session, peer.name, **values)


def _read_answer(answer: dict[str, Any], page: Page, last: int) -> tuple[int, list[tuple[int, str]]]:
    """How far the peer has our log, and what of ``page`` it refuses, why. Raises ``PeerRefused``."""
    position, refused = answer.get("position"), answer.get("refused", {})
    if not isinstance(position, int) or not 0 <= position <= last or not isinstance(refused, dict):
        raise PeerRefused("its answer to a push makes no sense")
    numbers = (number for number in range(page.after + 1, page.head.size + 1) if str(number) in refused)
    return position, [(number, str(refused[str(number)])[:200]) for number in numbers]


async def pull(peer: Peer, client: PeerClient, peers: Peers) -> int:
    """Take what stands in the peer's log behind what we have; how far we have it then.

    The next page comes, and is checked, while the one before it is taken.
    """

    async def look(after: int, on: Checked | None = None) -> tuple[Page, Checked]:
        page = await client.log(peer, after, _PULL_AT_ONCE)
        return page, await peers.check(page, on)

    page, checked = await look(peer.taken_position)
    while page.entries:
        coming = asyncio.create_task(look(page.head.size, checked))
        try:
            position = (await peers.take(page, checked)).position
            page, checked = await coming
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
        if position < page.after:  # what we had of the log is gone meanwhile
            page, checked = await look(position)
    # No entries are left, but a head: it has to be that of the tree that we have.
    return (await peers.take(page, checked)).position
