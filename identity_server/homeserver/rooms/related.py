"""Events that relate to one, and the threads of a room (Client-Server API, "Event relationships", "Threading")."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.rooms.read import visible_event
from identity_server.homeserver.rooms.rights import view_of
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.client_format import Viewer
from identity_server.homeserver.timeline.position import position_token
from identity_server.homeserver.timeline.relations import children, shown_events, thread_roots
from identity_server.homeserver.timeline.stored import StoredEvent
from identity_server.homeserver.timeline.timeline import Timeline
from identity_server.homeserver.timeline.visibility import visible_events

_MOST = 1000
_MOST_DEPTH = 3


@dataclass(frozen=True)
class Question:
    """``start`` and ``stop``: positions, as of GET /messages."""

    relation_type: str | None = None
    event_type: str | None = None
    start: int | None = None
    stop: int | None = None
    limit: int = 50
    backwards: bool = True
    recurse: bool = False


async def read_related(
    session: AsyncSession,
    timeline: Timeline,
    room_id: str,
    event_id: str,
    question: Question,
    *,
    viewer: Viewer,
    now_ms: int,
) -> dict[str, Any]:
    """The answer of GET /relations. Raises ``NotFound`` and ``Forbidden``."""
    await view_of(session, room_id, viewer.user_id)
    await visible_event(session, timeline, room_id, event_id, viewer.user_id)
    found = await children(
        session,
        room_id,
        [event_id],
        relation_type=question.relation_type,
        event_type=None if question.recurse else question.event_type,
    )
    depth, latest = 1, found
    while question.recurse and latest and depth < _MOST_DEPTH:
        known = {stored.event_id for stored in found}
        below = await children(session, room_id, [stored.event_id for stored in latest])
        latest = [stored for stored in below if stored.event_id not in known]
        found = found + latest
        depth += 1
    if question.recurse and question.event_type is not None:
        found = [stored for stored in found if stored.event.type == question.event_type]
    seen = await visible_events(session, timeline.groups, room_id, found, viewer.user_id)
    chosen, more = _page(seen, question)
    answer: dict[str, Any] = {"chunk": await shown_events(session, chosen, viewer=viewer, now_ms=now_ms)}
    if more:
        answer["next_batch"] = _token(chosen[-1], question.backwards)
    if question.start is not None:
        answer["prev_batch"] = position_token(question.start)
    if question.recurse:
        answer["recursion_depth"] = depth
    return answer


async def read_threads(
    session: AsyncSession,
    timeline: Timeline,
    room_id: str,
    *,
    start: int | None,
    limit: int,
    participated: bool,
    viewer: Viewer,
    now_ms: int,
) -> dict[str, Any]:
    """The answer of GET /threads. Raises ``Forbidden``."""
    await view_of(session, room_id, viewer.user_id)
    limit = max(1, min(limit, _MOST))
    roots = await thread_roots(
        session, room_id, before=start, limit=limit + 1, participant=viewer.user_id if participated else None
    )
    chosen = roots[:limit]
    found = await store.get_events(session, [root for root, _ in chosen])
    events = [found[root] for root, _ in chosen if root in found and found[root].event.room_id == room_id]
    seen = await visible_events(session, timeline.groups, room_id, events, viewer.user_id)
    answer: dict[str, Any] = {"chunk": await shown_events(session, seen, viewer=viewer, now_ms=now_ms)}
    if len(roots) > limit:
        answer["next_batch"] = position_token(roots[limit][1])
    return answer


def _page(events: list[StoredEvent], question: Question) -> tuple[list[StoredEvent], bool]:
    """What the question asks for, and whether there is more. A start is at the later end for who reads backwards."""
    low, high = (question.stop, question.start) if question.backwards else (question.start, question.stop)
    within = [
        stored
        for stored in events
        if (low is None or (stored.position or 0) > low) and (high is None or (stored.position or 0) <= high)
    ]
    within.sort(key=lambda stored: stored.position or 0, reverse=question.backwards)
    limit = max(1, min(question.limit, _MOST))
    return within[:limit], len(within) > limit


def _token(last: StoredEvent, backwards: bool) -> str:
    position = last.position or 0
    return position_token(position - 1 if backwards else position)
