"""Rooms that the user has left, was removed from, or did not want to join: up to the moment of that."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from identity_server.homeserver.sync import store
from identity_server.homeserver.sync.looking import Look
from identity_server.homeserver.sync.state import MEMBER, Told, changed_state, whole_state
from identity_server.homeserver.sync.store import Standing, Stretch
from identity_server.homeserver.sync.timeline import Section
from identity_server.homeserver.timeline import store as timeline
from identity_server.homeserver.timeline.position import position_token
from identity_server.homeserver.timeline.store import JOIN, state_at_position
from identity_server.homeserver.timeline.stored import OUTLIER, StoredEvent

_SHOWN = frozenset({JOIN, "invite", "knock"})


async def left_rooms(look: Look, account_data: Mapping[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """The rooms as they are answered."""
    told = {row.room_id: of_room for row in look.rooms.left if (of_room := await _told(look, row)) is not None}
    ids = [event_id for of_room in told.values() for event_id in of_room.state.values()]
    state = await look.show.state(look.session, ids) if ids else {}
    events = {room_id: of_room.section.events for room_id, of_room in told.items()}
    timelines = await look.show.timelines(look.session, events, {}, at_end=False) if told else {}
    return {
        room_id: {
            "timeline": {
                "events": timelines.get(room_id, []),
                "limited": of_room.section.limited,
                "prev_batch": position_token(of_room.section.start),
            },
            "state_after" if look.request.state_after else "state": {"events": state.get(room_id, [])},
            "account_data": {"events": account_data.get(room_id, [])},
        }
        for room_id, of_room in told.items()
    }


async def _told(look: Look, row: Standing) -> Told | None:
    state_after, is_first = look.request.state_after, look.request.since is None
    history = (await store.own_memberships(look.session, [row.room_id], look.request.user_id))[row.room_id]
    known = [membership for position, membership in history if position <= look.since]
    since = [membership for position, membership in history if look.since < position < row.position]
    if row.forgotten and history and not _SHOWN.intersection([*known[-1:], *since]):
        # "Rooms which have been forgotten will never appear": but who has been shown the room hears that it is over,
        # or a user's other clients would show it for ever.
        return None
    if not is_first and known and known[-1] == JOIN:
        section = await _section(look, row, Stretch(row.room_id, look.since, row.position))
        changes = await store.changes_in(look.session, [row.room_id], look.since, row.position)
        return changed_state(section, changes, state_after=state_after)
    if JOIN in since or (is_first and JOIN in known):
        section = await _section(look, row, Stretch(row.room_id, None, row.position))
        end = await state_at_position(look.session, row.room_id, row.position)
        told = await whole_state(look.session, row.room_id, section, end, state_after=state_after)
        return _lazy(look, told) if look.request.wanted.lazy else told
    # Never in it: all there is to tell is that it is over.
    return Told(Section(tuple(await _own(look, row)), row.position - 1, limited=False), {})


async def _section(look: Look, row: Standing, stretch: Stretch) -> Section:
    section = (await look.reader.read(look.session, [stretch], {}))[row.room_id]
    own = await _own(look, row)
    if own and own[0].position is None:
        # We were not told of it by the room itself.
        section = replace(section, events=(*section.events, *own))
    return section


async def _own(look: Look, row: Standing) -> list[StoredEvent]:
    """The membership event that ended it."""
    stored = await timeline.get_event(look.session, row.event_id)
    if stored is None or (stored.standing != OUTLIER and stored.position is None):
        return []
    return [stored] if look.request.wanted.timeline.admits(stored.event) and look.reader.limit > 0 else []


def _lazy(look: Look, told: Told) -> Told:
    needed = {stored.event.sender for stored in told.section.events} | {look.request.user_id}
    state = {key: event_id for key, event_id in told.state.items() if key[0] != MEMBER or key[1] in needed}
    return replace(told, state=state)
