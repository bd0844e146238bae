"""What is open so that clients can be told: opened together, for it belongs together."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.federation.edus import Edus
from identity_server.homeserver.presence.attendance import Attendance
from identity_server.homeserver.presence.tell import PRESENCE, receive_presence
from identity_server.homeserver.push.store import push_rules_content
from identity_server.homeserver.receipts.incoming import receive_receipts
from identity_server.homeserver.receipts.store import RECEIPT
from identity_server.homeserver.streams import Streams
from identity_server.homeserver.sync.parts import SyncParts
from identity_server.homeserver.timeline.timeline import Timeline
from identity_server.homeserver.typing.notify import TYPING, receive_typing
from identity_server.homeserver.typing.typing import Typing
from identity_server.runtime.background import running
from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database


@asynccontextmanager
async def open_sync(
    database: Database, timeline: Timeline, clock: Clock, *, background: bool
) -> AsyncIterator[dict[str, Any]]:
    """By the names that the application keeps them under."""
    typing = Typing(timeline.streams, start=clock.now_ms())
    attendance = Attendance(database, timeline.streams, clock, server_name=timeline.server_name)
    computed = {"m.push_rules": push_rules_content}
    opened = {
        "typing": typing,
        "attendance": attendance,
        "computed_account_data": computed,
        "sync": SyncParts(timeline.groups, typing, computed),
    }
    try:
        async with running(*((attendance.run_forever,) if background else ())):
            yield opened
    finally:
        typing.close()


def incoming_edus(opened: Mapping[str, Any], streams: Streams, clock: Clock) -> Edus:
    """Who is told of receipts, presence and typing elsewhere."""

    async def receipt(session: AsyncSession, origin: str, content: Mapping[str, Any]) -> None:
        await receive_receipts(session, streams, origin, content)

    async def presence(session: AsyncSession, origin: str, content: Mapping[str, Any]) -> None:
        await receive_presence(session, streams, origin, content, now_ms=clock.now_ms())

    async def typing(session: AsyncSession, origin: str, content: Mapping[str, Any]) -> None:
        await receive_typing(session, opened["typing"], origin, content)

    return {RECEIPT: receipt, PRESENCE: presence, TYPING: typing}
