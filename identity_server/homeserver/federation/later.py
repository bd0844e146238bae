"""Events that wait for a server to answer again.

Whoever sent them has done its part. They are tried again a few times, the last time with whatever can be had. In
memory only: after a restart the next event of the room shows what is missing.
"""

import asyncio
import heapq
import itertools
from dataclasses import dataclass, field
from typing import Any

import structlog

from identity_server.homeserver.federation.outcomes import Passing
from identity_server.homeserver.federation.receive import Receiver
from identity_server.matrix.errors import MatrixError

log = structlog.get_logger(__name__)

_PAUSES_SECONDS = (2, 10, 60)
_MOST = 2_000
_MOST_OF_ONE = 200


@dataclass(order=True)
class _Waiting:
    due: float
    number: int
    origin: str = field(compare=False)
    room_id: str = field(compare=False)
    pdu: Any = field(compare=False)
    attempts: int = field(compare=False, default=0)


class Later:
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._waiting: list[_Waiting] = []
        self._of_one: dict[str, int] = {}
        self._numbers = itertools.count()
        self._more = asyncio.Event()

    def put(self, origin: str, room_id: str, pdu: Any) -> bool:
        """Whether there is room for it."""
        if len(self._waiting) >= _MOST or self._of_one.get(origin, 0) >= _MOST_OF_ONE:
            return False
        self._of_one[origin] = self._of_one.get(origin, 0) + 1
        self._push(_Waiting(0, next(self._numbers), origin, room_id, pdu))
        return True

    def _push(self, waiting: _Waiting) -> None:
        waiting.due = asyncio.get_running_loop().time() + _PAUSES_SECONDS[waiting.attempts]
        heapq.heappush(self._waiting, waiting)
        self._more.set()

    async def run_forever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._waiting:
                self._more.clear()
                await self._more.wait()
            await asyncio.sleep(max(0, self._waiting[0].due - loop.time()))
            due = []
            while self._waiting and self._waiting[0].due <= loop.time():
                due.append(heapq.heappop(self._waiting))
            # Each server's one after the other, and the servers side by side.
            by_origin: dict[str, list[_Waiting]] = {}
            for one in due:
                by_origin.setdefault(one.origin, []).append(one)
            await asyncio.gather(*(self._try_all(of_one) for of_one in by_origin.values()))

    async def _try_all(self, waiting: list[_Waiting]) -> None:
        for one in waiting:
            one.attempts += 1
            is_last = one.attempts == len(_PAUSES_SECONDS)
            try:
                (error,) = await self._receiver.receive(one.origin, one.room_id, [one.pdu], patient=not is_last)
            except MatrixError as refused:
                error = str(refused)
            if isinstance(error, Passing) and not is_last:
                self._push(one)
                continue
            if error is not None:
                log.info("event dropped after waiting", attempts=one.attempts)
            self._of_one[one.origin] -= 1
            if not self._of_one[one.origin]:
                del self._of_one[one.origin]
