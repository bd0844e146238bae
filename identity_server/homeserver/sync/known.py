"""Rooms that the client knows: what is new of them since it was last told."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from identity_server.homeserver.sync import store
from identity_server.homeserver.sync.looking import Look
from identity_server.homeserver.sync.state import MEMBER, Told, changed_state
from identity_server.homeserver.sync.store import Change, Stretch
from identity_server.homeserver.sync.summary import summaries_of
from identity_server.homeserver.sync.timeline import Section, without_gaps
from identity_server.homeserver.timeline.stored import StoredEvent

# What happened on the whole server is read as it is, while it is not more than this.
_FEW_EVENTS = 100
_FEW_CHANGES = 300

Recent = Mapping[str, list[StoredEvent]]


@dataclass(frozen=True)
class Known:
    """By room. ``recent``: all that happened since, in any room; None if that is too much to look at.

    ``moved``: whose memberships changed.
    """

    told: Mapping[str, Told]
    summaries: Mapping[str, dict[str, Any]]
    recent: Recent | None = None
    moved: frozenset[str] = frozenset()


async def read_known(look: Look) -> Known:
    known = look.rooms.joined.keys() - look.anew
    if look.request.since is None or not known:
        return Known({}, {})
    changes = await _changes(look, known)
    recent, sections = await _sections(look, known)
    if look.newest.gaps > look.since:
        sections = await without_gaps(look.session, sections, look.upto)
    told = {
        room_id: changed_state(
            sections.get(room_id) or Section((), look.since, limited=False),
            changes.get(room_id, ()),
            state_after=look.request.state_after,
        )
        for room_id in sections.keys() | changes.keys()
    }
    moved = {change.state_key for of_room in changes.values() for change in of_room if change.type == MEMBER}
    # Whom the filter keeps from the client may have come or gone without any news for it.
    hidden = not look.request.wanted.state.admits_type(MEMBER)
    altered = sorted(room_id for room_id, of_room in told.items() if of_room.members_changed or hidden)
    summaries = await summaries_of(look.session, look.parts.member_counts, altered, look.request.user_id)
    if look.request.wanted.lazy:
        for room_id, of_room in told.items():
            if of_room.section.events:
                heroes = summaries.get(room_id, {}).get("m.heroes", ())
                told[room_id] = replace(of_room, state=await look.lazy.add_to(of_room, room_id, heroes))
    return Known(told, summaries, recent, frozenset(moved))


async def _changes(look: Look, known: set[str]) -> dict[str, list[Change]]:
    """What changed of the rooms' states."""
    if look.newest.states <= look.since:
        return {}
    found = await store.changes_between(look.session, look.since, look.upto, limit=_FEW_CHANGES)
    if found is None:
        found = await store.changes_in(look.session, known, look.since, look.upto)
    changes: dict[str, list[Change]] = {}
    for change in found:
        if change.room_id in known:
            changes.setdefault(change.room_id, []).append(change)
    return changes


async def _sections(look: Look, known: set[str]) -> tuple[Recent | None, dict[str, Section]]:
    if look.newest.events <= look.since:
        return {}, {}
    events = await store.events_between(look.session, look.since, look.upto, limit=_FEW_EVENTS)
    joined = look.rooms.joined
    if events is None:
        active = await store.rooms_with_events(look.session, known, look.since)
        stretches = [Stretch(room_id, look.since, look.upto) for room_id in sorted(active)]
        return None, await look.reader.read(look.session, stretches, joined)
    recent: dict[str, list[StoredEvent]] = {}
    for stored in events:
        recent.setdefault(stored.event.room_id, []).append(stored)
    of_rooms = {
        Stretch(room_id, look.since, look.upto): of_room for room_id, of_room in recent.items() if room_id in known
    }
    return recent, await look.reader.take(look.session, of_rooms, joined)
