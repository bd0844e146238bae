"""The past of rooms that we came into late, fetched from other servers as it is asked for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.federation.backfill import Backfill
from identity_server.homeserver.rooms.messages import Page, Span, read_page
from identity_server.homeserver.rooms.moments import event_near
from identity_server.homeserver.rooms.rights import view_of
from identity_server.homeserver.timeline.event_filter import EventFilter
from identity_server.homeserver.timeline.history import backward_extremities, page
from identity_server.homeserver.timeline.timeline import Timeline
from identity_server.matrix.errors import NotFound
from identity_server.runtime.database import Database
from identity_server.runtime.dependencies import opened

# So often for one page, if what comes is nothing that the user wants to see, or may.
_MOST_ASKED = 3
_MOST_ASKED_FOR_A_MOMENT = 20


@dataclass(frozen=True)
class Past:
    database: Database
    timeline: Timeline
    backfill: Backfill

    @asynccontextmanager
    async def reading_page(
        self, room_id: str, user_id: str, span: Span, wanted: EventFilter
    ) -> AsyncIterator[tuple[AsyncSession, Page]]:
        """The page, and a session to show it by. Raises ``Forbidden``."""
        for _ in range(_MOST_ASKED if span.backwards else 0):
            async with self.database.reading() as session:
                view = await view_of(session, room_id, user_id)
                read = await read_page(session, self.timeline, view, span, wanted)
                is_over = read.is_over and bool(await backward_extremities(session, room_id, 1))
            # Only now that no transaction is open: another server is asked.
            if not is_over or not await self.backfill.backfill(room_id):
                break
        async with self.database.reading() as session:
            view = await view_of(session, room_id, user_id)
            yield session, await read_page(session, self.timeline, view, span, wanted)

    async def event_near(self, room_id: str, user_id: str, ts: int, *, backwards: bool) -> dict[str, Any]:
        """``event_id`` and ``origin_server_ts`` of the nearest event that the user may see.

        Raises ``Forbidden``, and ``NotFound`` if there is none.
        """
        for _ in range(_MOST_ASKED_FOR_A_MOMENT):
            async with self.database.reading() as session:
                await view_of(session, room_id, user_id)
                oldest = await page(session, room_id, backwards=False, limit=1)
                # What is older than all that we have may be nearer.
                is_late = not oldest or oldest[0].event.origin_server_ts > ts
                is_late = is_late and bool(await backward_extremities(session, room_id, 1))
            if not is_late or not await self.backfill.backfill(room_id):
                break
        async with self.database.reading() as session:
            found = await event_near(session, self.timeline, room_id, user_id, ts, backwards=backwards)
        if found is None:
            raise NotFound(f"Unable to find event from {ts} in {'backward' if backwards else 'forward'} direction")
        return found


OpenPast = Annotated[Past, opened("past")]
