"""How often one may ask: the limits library, in memory or in a store that all workers share."""

import hashlib
from collections.abc import Awaitable, Callable

from limits import RateLimitItem, parse_many
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.storage import storage_from_string

from identity_server.matrix.errors import LimitExceeded
from identity_server.runtime.clock import SystemClock
from identity_server.settings import RateLimitSettings


class RateLimits:
    """The rates of ``[rate_limits]``, by the names that they have there."""

    def __init__(self, settings: RateLimitSettings) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(storage_from_string(f"async+{settings.storage}"))
        self._clock = SystemClock()  # the library reads the system's clock, so what it says is held against that
        self._rates: dict[str, list[RateLimitItem]] = {
            name: parse_many(rate)
            for name, rate in settings.model_dump(exclude={"enabled", "storage"}).items()
            if settings.enabled and rate
        }

    async def hit(self, rate: str, who: str) -> None:
        """Count one request of ``who`` against ``rate``; raises ``LimitExceeded`` if that is one too many."""
        await self._each(rate, who, self._limiter.hit)

    async def check(self, rate: str, who: str) -> None:
        """Raises ``LimitExceeded`` if the next ``hit`` would; for what counts only once it has failed."""
        await self._each(rate, who, self._limiter.test)

    async def _each(self, rate: str, who: str, ask: Callable[[RateLimitItem, str, str], Awaitable[bool]]) -> None:
        if rate not in self._rates:
            return
        # The store may be shared with others and dumped to disk: it gets no address in the clear.
        key = hashlib.sha256(who.encode()).hexdigest()[:32]
        for item in self._rates[rate]:
            if not await ask(item, rate, key):
                window = await self._limiter.get_window_stats(item, rate, key)
                wait_ms = int(window.reset_time * 1000) - self._clock.now_ms()
                raise LimitExceeded(retry_after_ms=max(1000, wait_ms))
