"""What is left of the events of users who asked to be erased (Client-Server API, POST /account/deactivate, ``erase``).

Nothing is redacted: whoever was there when they were sent still has them.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.accounts import store as accounts
from identity_server.homeserver.events.redaction import redact_event
from identity_server.homeserver.timeline.stored import StoredEvent


async def without_erased(session: AsyncSession, events: Sequence[StoredEvent]) -> list[StoredEvent]:
    """``events`` for somebody who was not there, those of erased users as redacted copies."""
    erased = await erased_senders(session, events)
    return [replace(one, event=redact_event(one.event)) if one.event.sender in erased else one for one in events]


async def erased_senders(session: AsyncSession, events: Iterable[StoredEvent]) -> set[str]:
    senders = {stored.event.sender for stored in events if stored.is_ours}
    return await accounts.erased_users(session, senders) if senders else set()
