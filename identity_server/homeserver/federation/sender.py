"""Telling other servers: each at its own pace, none at the cost of another (Server-Server API, "Transactions").

One process of all on a database sends. Its memory holds nothing that a restart would lose, but for what matters only
now.
"""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Annotated, Any

import structlog
from sqlalchemy import update

from identity_server.homeserver.federation import outbox
from identity_server.homeserver.federation.calls import FederationCalls, federation_path
from identity_server.homeserver.federation.edus import Edu
from identity_server.homeserver.federation.models import Destination
from identity_server.homeserver.federation.outbox import MAX_EDUS, Batch
from identity_server.homeserver.streams import FEDERATION, Streams, current_position
from identity_server.matrix.http import Unreachable
from identity_server.matrix.json_api import Refused
from identity_server.runtime.background import to_its_end
from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database
from identity_server.runtime.dependencies import opened
from identity_server.runtime.leases import release_lease, take_lease

log = structlog.get_logger(__name__)

_WORK = "federation sender"
_LEASE_MS = 10_000
_LOOK_EVERY_MS = 1_000
_ASK_FOR_LEASE_EVERY_MS = 2_000
_SENDING_MS = 90_000
_FIRST_PAUSE_MS = 1_000
_LONGEST_PAUSE_MS = 3_600_000
_HEED_EVERY_MS = 5_000
_SETTLE_EVERY_MS = 60_000
_HEALTHY_AT_ONCE = 200
_RESTING_AT_ONCE = 20
_MAX_EPHEMERAL = 100
_RELEASE_SECONDS = 2


class Sender:
    """Sends from each destination's cursor on, and pauses longer and longer for one that is down."""

    def __init__(
        self, database: Database, streams: Streams, calls: FederationCalls, clock: Clock, *, holder: str
    ) -> None:
        self._database = database
        self._streams = streams
        self._calls = calls
        self._clock = clock
        self._holder = holder
        self._leased_until_ts = 0
        self._ask_again_ts = 0
        self._looked_to: int | None = None
        self._looked_to_edu = 0
        self._at_work: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._resting: dict[str, tuple[int, int]] = {}
        self._ephemeral: dict[str, dict[tuple[str, str], Edu]] = {}
        self._healthy = asyncio.Semaphore(_HEALTHY_AT_ONCE)
        self._trying = asyncio.Semaphore(_RESTING_AT_ONCE)
        self._tried: dict[str, int] = {}
        self._heard: dict[str, int] = {}
        self._settled_ts = 0

    def send_soon(self, server_name: str, edu_type: str, content: Mapping[str, Any], *, key: str) -> None:
        """Tell what matters only now: with the next transaction, or never. The same ``key`` replaces."""
        if server_name in self._resting or not self._leased_until_ts:
            return
        waiting = self._ephemeral.setdefault(server_name, {})
        if len(waiting) < _MAX_EPHEMERAL:
            waiting[edu_type, key] = Edu(edu_type, content)
            self._begin(server_name)

    def heard_from(self, server_name: str) -> None:
        """A server that asks us something can be told something."""
        now_ms = self._clock.now_ms()
        # One that hears nothing though it speaks is not tried at each word.
        if now_ms - self._heard.get(server_name, -_HEED_EVERY_MS) < _HEED_EVERY_MS:
            return
        if server_name in self._resting:
            self._heard[server_name] = now_ms
            self._resting[server_name] = self._resting[server_name][0], now_ms
            self._streams.wake([FEDERATION])
        elif not self._leased_until_ts:
            self._heard[server_name] = now_ms
            self._background(self._tell_sender(server_name, now_ms))

    async def run_forever(self) -> None:
        try:
            with self._streams.listening([FEDERATION]) as listener:
                while True:
                    if await to_its_end(self._is_ours()):
                        await to_its_end(self._look())
                    await listener.wait(_LOOK_EVERY_MS)
        finally:
            await self._stop()

    async def _is_ours(self) -> bool:
        now_ms = self._clock.now_ms()
        if self._leased_until_ts - now_ms < _LEASE_MS // 2 and now_ms >= self._ask_again_ts:
            self._ask_again_ts = now_ms + _ASK_FOR_LEASE_EVERY_MS
            is_ours = await take_lease(self._database, _WORK, self._holder, now_ms=now_ms, for_ms=_LEASE_MS)
            if not is_ours:
                self._looked_to = None
            self._leased_until_ts = now_ms + _LEASE_MS if is_ours else 0
        return bool(self._leased_until_ts)

    async def _look(self) -> None:
        """Begin with every server that is owed something, and is not resting."""
        async with self._database.reading() as session:
            position = await current_position(session)
            if self._looked_to is None:
                self._resting = await outbox.resting(session)
                owed = set(await outbox.known_destinations(session))
            else:
                owed = set[str]()
                if position > self._looked_to:
                    owed = await outbox.told_of(session, since=self._looked_to, until=position)
                if self._resting:
                    self._resting |= self._sooner(await outbox.resting(session))
            with_edus, self._looked_to_edu = await outbox.owed_edus(session, since=self._looked_to_edu)
        self._looked_to = position
        now_ms = self._clock.now_ms()
        due = {name for name, (_, next_try_ts) in self._resting.items() if next_try_ts <= now_ms}
        for server_name in (owed | with_edus | due) - {self._calls.keys.server_name}:
            self._begin(server_name)
        if now_ms - self._settled_ts >= _SETTLE_EVERY_MS:
            self._settled_ts = now_ms
            busy = {*self._at_work, *self._resting, self._calls.keys.server_name}
            async with self._database.transaction() as session:
                await outbox.settle(session, position, busy)

    def _sooner(self, written: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
        """What another process has learnt of those that rest."""
        return {
            name: (failures, min(next_try_ts, self._resting[name][1]))
            for name, (failures, next_try_ts) in written.items()
            if name in self._resting
        }

    def _begin(self, server_name: str) -> None:
        if server_name in self._at_work:
            self._again.add(server_name)
            return
        _, next_try_ts = self._resting.get(server_name, (0, 0))
        if next_try_ts <= self._clock.now_ms():
            task = asyncio.create_task(self._drain(server_name))
            self._at_work[server_name] = task
            task.add_done_callback(lambda done: self._ended(server_name, done))

    def _ended(self, server_name: str, task: "asyncio.Task[None]") -> None:
        del self._at_work[server_name]
        if not task.cancelled() and (error := task.exception()):
            log.error("sending failed", exc_info=error)
            self._resting.setdefault(server_name, (1, self._clock.now_ms() + _HEED_EVERY_MS))
        if server_name in self._again and not task.cancelled():
            self._again.discard(server_name)
            self._begin(server_name)

    async def _drain(self, server_name: str) -> None:
        """Send until nothing is owed, or it fails."""
        async with self._trying if server_name in self._resting else self._healthy:
            while (batch := await to_its_end(self._next(server_name))) is not None:
                self._tried[server_name] = self._clock.now_ms()
                try:
                    await self._send(server_name, batch)
                except (Unreachable, Refused) as error:
                    if isinstance(error, Refused) and not _is_passing(error):
                        # It will not do better next time. Whoever misses something asks for it.
                        log.warning("transaction refused", status=error.status, errcode=error.errcode)
                    else:
                        await to_its_end(self._rest(server_name, batch, error))
                        return
                await to_its_end(self._note_sent(server_name, batch))

    async def _next(self, server_name: str) -> Batch | None:
        batch = await self._read_batch(server_name)
        if batch is None and server_name in self._resting:
            async with self._database.transaction() as session:
                await outbox.forget_failed(session, server_name)
            del self._resting[server_name]
            batch = await self._read_batch(server_name)
        passing = list(self._ephemeral.pop(server_name, {}).values())
        if passing and server_name not in self._resting:
            if batch is None:
                return Batch(f"{self._holder}{self._clock.now_ms()}", [], passing[:MAX_EDUS], until=-1)
            edus = [*batch.edus, *passing][:MAX_EDUS]
            return Batch(batch.transaction_id, batch.pdus, edus, batch.until, batch.edu_ids)
        return batch

    async def _read_batch(self, server_name: str) -> Batch | None:
        async with self._database.reading() as session:
            return await outbox.next_batch(session, server_name)

    async def _send(self, server_name: str, batch: Batch) -> None:
        content = {
            "origin": self._calls.keys.server_name,
            "origin_server_ts": self._clock.now_ms(),
            "pdus": list(batch.pdus),
            "edus": [edu.as_json() for edu in batch.edus],
        }
        path = federation_path("send", batch.transaction_id)
        answer = await self._calls.put(server_name, path, content, timeout_ms=_SENDING_MS)
        results = answer.get("pdus")
        refused = (
            sum("error" in result for result in results.values() if isinstance(result, dict))
            if isinstance(results, dict)
            else 0
        )
        if refused:
            log.info("events refused by another server", count=refused)

    async def _note_sent(self, server_name: str, batch: Batch) -> None:
        self._resting.pop(server_name, None)
        if batch.until >= 0:
            async with self._database.transaction() as session:
                await outbox.note_sent(session, server_name, batch)

    async def _rest(self, server_name: str, batch: Batch, error: Exception) -> None:
        failures = self._resting.get(server_name, (0, 0))[0] + 1
        pause_ms = min(_FIRST_PAUSE_MS << min(failures - 1, 12), _LONGEST_PAUSE_MS)
        if isinstance(error, Refused) and isinstance(asked := error.body.get("retry_after_ms"), int):
            pause_ms = min(max(pause_ms, asked), _LONGEST_PAUSE_MS)
        elif self._heard.get(server_name, 0) > self._tried[server_name]:
            pause_ms = _FIRST_PAUSE_MS  # it came back while we waited in vain
        next_try_ts = self._clock.now_ms() + pause_ms
        log.info("destination rests", failures=failures, pause_ms=pause_ms, error=type(error).__name__)
        if batch.until < 0:
            return  # only what mattered then
        self._resting[server_name] = failures, next_try_ts
        async with self._database.transaction() as session:
            await outbox.note_failed(session, server_name, batch, failures=failures, next_try_ts=next_try_ts)

    def _background(self, work: Any) -> None:
        task = asyncio.create_task(work)
        name = f" {id(task)}"
        self._at_work[name] = task
        task.add_done_callback(lambda _done: self._at_work.pop(name))

    async def _tell_sender(self, server_name: str, now_ms: int) -> None:
        """The process that sends is another one: it looks at the row."""
        async with self._database.transaction() as session:
            rests = (Destination.server_name == server_name) & (Destination.next_try_ts > now_ms)
            await session.execute(update(Destination).where(rests).values(next_try_ts=now_ms))

    async def _stop(self) -> None:
        tasks = list(self._at_work.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._leased_until_ts:
            self._leased_until_ts = 0
            # Whoever is started next need not wait for it to run out.
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_RELEASE_SECONDS):
                    await release_lease(self._database, _WORK, self._holder)


OpenSender = Annotated[Sender, opened("federation_sender")]


def _is_passing(refused: Refused) -> bool:
    """Whether what was refused now may be taken later."""
    return refused.status in (401, 404, 408, 429) or refused.status >= 500 or refused.status < 400
