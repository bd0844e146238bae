"""What was said around an event (Client-Server API, "Event Context")."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.rooms.messages import Page, Span, read_page, senders
from identity_server.homeserver.rooms.read import visible_event
from identity_server.homeserver.rooms.rights import view_of
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.client_format import Viewer, client_events
from identity_server.homeserver.timeline.event_filter import EventFilter
from identity_server.homeserver.timeline.members import MEMBER
from identity_server.homeserver.timeline.position import position_token
from identity_server.homeserver.timeline.relations import shown_events
from identity_server.homeserver.timeline.stored import StoredEvent
from identity_server.homeserver.timeline.timeline import Timeline


async def read_context(
    session: AsyncSession,
    timeline: Timeline,
    room_id: str,
    event_id: str,
    *,
    limit: int,
    wanted: EventFilter,
    viewer: Viewer,
    now_ms: int,
) -> dict[str, Any]:
    """The answer of GET /context. Raises ``Forbidden`` and ``NotFound``."""
    view = await view_of(session, room_id, viewer.user_id)
    stored, membership = await visible_event(session, timeline, room_id, event_id, viewer.user_id)
    at = stored.position or 0
    before, after = Page(at - 1, None, []), Page(at, None, [])
    if limit // 2:
        before = await read_page(session, timeline, view, Span(True, at - 1, limit=limit // 2), wanted)
    if limit - limit // 2:
        after = await read_page(session, timeline, view, Span(False, at, limit=limit - limit // 2), wanted)
    around = [*reversed(before.events), stored, *after.events]
    first, last = around[0].position or 0, around[-1].position or 0

    unsigned = {**before.unsigned, **after.unsigned, event_id: {"membership": membership}}

    async def shown(events: list[StoredEvent]) -> list[dict[str, Any]]:
        return await shown_events(session, events, viewer=viewer, now_ms=now_ms, unsigned=unsigned)

    state = await _state_at(session, timeline, around, wanted)
    return {
        "start": position_token(before.end if before.end is not None else first - 1),
        "end": position_token(after.end if after.end is not None else last),
        "events_before": await shown(before.events),
        "event": (await shown([stored]))[0],
        "events_after": await shown(after.events),
        "state": await client_events(session, state, viewer=viewer, now_ms=now_ms),
    }


async def _state_at(
    session: AsyncSession, timeline: Timeline, around: list[StoredEvent], wanted: EventFilter
) -> list[StoredEvent]:
    """The state at the last event; of the members only those who spoke, if they are wanted lazily."""
    ids = await timeline.groups.state_of(session, around[-1].state_group)
    members: list[StoredEvent] = []
    if wanted.lazy_load_members:
        ids = {key: event_id for key, event_id in ids.items() if key[0] != MEMBER}
        members = await senders(session, timeline, around)
    found = await store.get_events(session, list(ids.values()))
    return [stored for stored in [*found.values(), *members] if wanted.admits(stored.event)]
