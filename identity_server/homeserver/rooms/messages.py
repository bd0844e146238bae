"""A room's history in pages (Client-Server API, GET /messages, "Lazy-loading room members")."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.event import member
from identity_server.homeserver.rooms.rights import View
from identity_server.homeserver.streams import current_position
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.client_format import Viewer, client_events
from identity_server.homeserver.timeline.event_filter import EventFilter
from identity_server.homeserver.timeline.history import page
from identity_server.homeserver.timeline.position import position_token
from identity_server.homeserver.timeline.relations import shown_events
from identity_server.homeserver.timeline.stored import StoredEvent
from identity_server.homeserver.timeline.timeline import Timeline
from identity_server.homeserver.timeline.visibility import visible_with_memberships

_MOST = 1000
_AT_ONCE = 100
# So many events that the user may not see are passed over before the client is asked to come again.
_MOST_READ = 2000


@dataclass(frozen=True)
class Span:
    """Which part of the history is asked for: from ``start`` (None: the end that it is read from) up to ``stop``."""

    backwards: bool
    start: int | None = None
    stop: int | None = None
    limit: int = 10


@dataclass(frozen=True)
class Page:
    """``start`` and ``end`` as positions; ``end`` is None if nothing was found.

    ``is_over``: there is no more here that the user may see.
    """

    start: int
    end: int | None
    events: list[StoredEvent]
    is_over: bool = True
    memberships: Mapping[str, str] = field(default_factory=dict)
    """The user's at each event, by its ID."""

    @property
    def unsigned(self) -> dict[str, dict[str, str]]:
        return {event_id: {"membership": membership} for event_id, membership in self.memberships.items()}


async def read_page(session: AsyncSession, timeline: Timeline, view: View, span: Span, wanted: EventFilter) -> Page:
    """What of the span is to be shown."""
    start = await _start(session, view, span)
    limit = max(1, min(span.limit, wanted.limit or _MOST, _MOST))
    if not wanted.admits_room(view.room_id):
        return Page(start, None, [])
    found: list[StoredEvent] = []
    memberships: dict[str, str] = {}
    at, read, more = start, 0, True
    while more and len(found) < limit and read < _MOST_READ:
        count = max(limit - len(found) + 1, _AT_ONCE if read else 0)
        events = await page(
            session,
            view.room_id,
            after=span.stop if span.backwards else at,
            until=at if span.backwards else _least(span.stop, view.until),
            backwards=span.backwards,
            limit=count,
            conditions=wanted.conditions(),
        )
        read += len(events)
        more = len(events) == count
        visible = await visible_with_memberships(session, timeline.groups, view.room_id, events, view.user_id)
        memberships.update({stored.event_id: membership for stored, membership in visible})
        admitted = [stored for stored, _ in visible if wanted.admits(stored.event)]
        room_left = limit - len(found)
        found += admitted[:room_left]
        if len(admitted) > room_left:
            at, more = _beyond(found[-1], span.backwards), True
            break
        if events:
            at = _beyond(events[-1], span.backwards)
    # From the end of the last page that holds something a client turns round, to read from the start of the room on.
    goes_on = more or bool(found)
    is_over = not more and (wanted.admits_all or not found)
    return Page(start, at if goes_on else None, found, is_over, memberships)


async def show_page(
    session: AsyncSession,
    timeline: Timeline,
    page_read: Page,
    wanted: EventFilter,
    *,
    viewer: Viewer,
    now_ms: int,
) -> dict[str, Any]:
    """The answer of GET /messages."""
    shown: dict[str, Any] = {
        "start": position_token(page_read.start),
        "chunk": await shown_events(
            session, page_read.events, viewer=viewer, now_ms=now_ms, unsigned=page_read.unsigned
        ),
    }
    if page_read.end is not None:
        shown["end"] = position_token(page_read.end)
    if wanted.lazy_load_members and page_read.events:
        members = await senders(session, timeline, page_read.events)
        shown["state"] = await client_events(session, members, viewer=viewer, now_ms=now_ms)
    return shown


async def senders(session: AsyncSession, timeline: Timeline, events: Sequence[StoredEvent]) -> list[StoredEvent]:
    """The membership events of whoever sent ``events``: at the last of them, or at the first of who was not in yet."""
    states = [await timeline.groups.state_of(session, stored.state_group) for stored in (events[-1], events[0])]
    keys = [member(sender) for sender in dict.fromkeys(stored.event.sender for stored in events)]
    ids = {key: [state[key] for state in states if key in state] for key in keys}
    found = await store.get_events(session, [event_id for either in ids.values() for event_id in either])
    shown = []
    for either in ids.values():
        told = [found[event_id] for event_id in either]
        shown += [one for one in told if one.event.membership == store.JOIN][:1] or told[:1]
    return shown


async def _start(session: AsyncSession, view: View, span: Span) -> int:
    if span.start is not None:
        return span.start if view.until is None or not span.backwards else min(span.start, view.until)
    if span.backwards:
        return await current_position(session) if view.until is None else view.until
    first = await page(session, view.room_id, backwards=False, limit=1)
    return (first[0].position or 0) - 1 if first else 0


def _beyond(stored: StoredEvent, backwards: bool) -> int:
    position = stored.position or 0
    return position - 1 if backwards else position


def _least(*bounds: int | None) -> int | None:
    return min((bound for bound in bounds if bound is not None), default=None)
