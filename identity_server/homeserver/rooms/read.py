"""Reading a room's state and single events, as far as the user may (Client-Server API, "Getting events for a room")."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.event import StateKey
from identity_server.homeserver.rooms.rights import require_joined, view_of
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.client_format import Viewer, client_events
from identity_server.homeserver.timeline.members import MEMBER
from identity_server.homeserver.timeline.position import read_position
from identity_server.homeserver.timeline.relations import shown_events
from identity_server.homeserver.timeline.stored import StoredEvent
from identity_server.homeserver.timeline.timeline import Timeline
from identity_server.homeserver.timeline.visibility import visible_with_memberships
from identity_server.matrix.errors import NotFound


async def visible_event(
    session: AsyncSession, timeline: Timeline, room_id: str, event_id: str, user_id: str
) -> tuple[StoredEvent, str]:
    """With the user's membership at it. Raises ``NotFound`` for what the user may not see, too."""
    stored = await store.get_event(session, event_id)
    if stored is None or stored.event.room_id != room_id or stored.position is None:
        raise NotFound("Event not found")
    seen = await visible_with_memberships(session, timeline.groups, room_id, [stored], user_id)
    if not seen:
        raise NotFound("Event not found")
    return seen[0]


async def read_event(
    session: AsyncSession, timeline: Timeline, room_id: str, event_id: str, *, viewer: Viewer, now_ms: int
) -> dict[str, Any]:
    """Raises ``NotFound``."""
    stored, membership = await visible_event(session, timeline, room_id, event_id, viewer.user_id)
    unsigned = {event_id: {"membership": membership}}
    return (await shown_events(session, [stored], viewer=viewer, now_ms=now_ms, unsigned=unsigned))[0]


async def read_state_event(
    session: AsyncSession, room_id: str, key: StateKey, *, viewer: Viewer, whole: bool, now_ms: int
) -> Mapping[str, Any]:
    """The content, or the ``whole`` event. Raises ``Forbidden`` and ``NotFound``."""
    view = await view_of(session, room_id, viewer.user_id)
    event = await view.state_event(session, key)
    if event is None:
        raise NotFound("The state holds nothing of this type and state key")
    if not whole:
        return event.content
    stored = await store.get_events(session, [event.event_id])
    return (await client_events(session, list(stored.values()), viewer=viewer, now_ms=now_ms))[0]


async def read_state(session: AsyncSession, room_id: str, *, viewer: Viewer, now_ms: int) -> list[dict[str, Any]]:
    """Raises ``Forbidden``."""
    view = await view_of(session, room_id, viewer.user_id)
    ids = await view.state_ids(session)
    stored = await store.get_events(session, list(ids.values()))
    return await client_events(session, list(stored.values()), viewer=viewer, now_ms=now_ms)


async def members_of(
    session: AsyncSession,
    room_id: str,
    *,
    viewer: Viewer,
    at: str | None,
    only: str | None,
    without: str | None,
    now_ms: int,
) -> list[dict[str, Any]]:
    """The membership events, now or ``at`` a token. Raises ``Forbidden`` and ``InvalidParam``."""
    view = await view_of(session, room_id, viewer.user_id)
    position = None if at is None else read_position(at)
    if position is not None and (view.until is None or position < view.until):
        ids = await store.state_at_position(session, room_id, position, [MEMBER])
        if not ids and (began := await store.first_of_type(session, room_id, MEMBER)) is not None:
            # The start of a timeline that holds the whole room lies before anybody was in it.
            ids = await store.state_at_position(session, room_id, began, [MEMBER])
    else:
        ids = await view.state_ids(session, [MEMBER])
    stored = await store.get_events(session, list(ids.values()))
    # Both together are an "or".
    wanted = [
        member
        for member in stored.values()
        if (only is None and without is None)
        or (only is not None and member.event.membership == only)
        or (without is not None and member.event.membership != without)
    ]
    return await client_events(session, wanted, viewer=viewer, now_ms=now_ms)


async def joined_members(session: AsyncSession, room_id: str, user_id: str) -> dict[str, dict[str, Any]]:
    """``display_name`` and ``avatar_url`` by user ID: null for what they do not have. Raises ``Forbidden``."""
    await require_joined(session, room_id, user_id)
    found: dict[str, dict[str, Any]] = {}
    for (_, member), event in (await store.current_state(session, room_id, [MEMBER])).items():
        if event.membership == store.JOIN:
            about = {"display_name": event.content.get("displayname"), "avatar_url": event.content.get("avatar_url")}
            found[member] = {name: value if isinstance(value, str) else None for name, value in about.items()}
    return found
