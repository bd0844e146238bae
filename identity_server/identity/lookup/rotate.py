"""Pepper rotation, online: the next index is built beside the one in use, then takes its place.

1. ``begin``: a pepper in state ``building`` gets the free table. It is made under the association log's lock, so
   whatever is stated from then on is written to that table too, and wins over what the builder brings.
2. ``build`` (``fill.py``): every address is hashed, and its hash put in. An interrupted build begins again, with the
   same pepper; what is there already is left alone.
3. ``switch``: the new pepper is handed out, the old one accepted for the grace period.
"""

from identity_server.identity.associations.store import lock_log
from identity_server.identity.lookup import store
from identity_server.identity.lookup.fill import Progress, build, in_silence
from identity_server.identity.lookup.peppers import PEPPER_LENGTH
from identity_server.identity.lookup.store import LivePepper
from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database
from identity_server.runtime.tokens import Entropy
from identity_server.settings import LookupSettings


class InGrace(Exception):
    """The pepper before the current one is still accepted, and there is no third table."""


async def rotate(
    database: Database,
    settings: LookupSettings,
    *,
    clock: Clock,
    entropy: Entropy,
    force: bool = False,
    progress: Progress = in_silence,
) -> str:
    """The new pepper, once it is handed out. ``force``: even if that ends an older one's grace. Raises ``InGrace``."""
    building = await begin(database, clock=clock, entropy=entropy, force=force)
    await build(database, building, progress)
    await switch(database, building, grace_ms=settings.grace_period, clock=clock)
    return building.pepper


async def begin(database: Database, *, clock: Clock, entropy: Entropy, force: bool = False) -> LivePepper:
    """The pepper that is being built, a new one if there is none yet."""
    async with database.transaction() as session:
        await lock_log(session)
        now_ms = clock.now_ms()
        live = await store.live_peppers(session)
        for pepper in live:
            if pepper.state == "building":
                return pepper
            if pepper.state == "retiring":
                if not force and pepper.accepted_until_ts is not None and pepper.accepted_until_ts > now_ms:
                    raise InGrace("the pepper before the current one is still in its grace period")
                await store.remove_pepper(session, pepper)
        [current] = [pepper for pepper in live if pepper.state == "current"]
        new = LivePepper(entropy.token(PEPPER_LENGTH), 1 - current.slot, "building", now_ms, None, None)
        await store.add_pepper(session, new)
        return new


async def switch(database: Database, building: LivePepper, *, grace_ms: int, clock: Clock) -> None:
    async with database.transaction() as session:
        await lock_log(session)
        live = {pepper.pepper: pepper for pepper in await store.live_peppers(session)}
        built = live.get(building.pepper)
        if built is None or built.state != "building":
            return  # another process has continued the same rotation, and was faster
        for pepper in live.values():
            if pepper.state == "current":
                await store.set_state(session, pepper.pepper, "retiring", clock.now_ms() + grace_ms)
        await store.set_state(session, built.pepper, "current", None)
        if built._replace(state="current").is_complete:
            await store.remove_unbound(session, built.slot)
