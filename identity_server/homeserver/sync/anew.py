"""Rooms of which the client is told everything: at the beginning, when the user comes into them, or when it asks."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from identity_server.homeserver.sync.looking import Look
from identity_server.homeserver.sync.state import MEMBER, Told, add_members, ends_of, whole_state
from identity_server.homeserver.sync.store import Stretch
from identity_server.homeserver.sync.summary import summaries_of
from identity_server.homeserver.sync.timeline import Section, without_gaps


@dataclass(frozen=True)
class Anew:
    """By room."""

    told: Mapping[str, Told]
    summaries: Mapping[str, dict[str, Any]]


async def read_anew(look: Look) -> Anew:
    rooms = sorted(look.anew)
    if not rooms:
        return Anew({}, {})
    stretches = [
        Stretch(room_id, None if room_id in look.rooms.entered else look.since, look.upto) for room_id in rooms
    ]
    sections = await look.reader.read(look.session, stretches, look.rooms.joined)
    if look.newest.gaps:
        sections = await without_gaps(look.session, sections, look.upto)
    summaries = await summaries_of(look.session, look.parts.member_counts, rooms, look.request.user_id)
    is_lazy = look.request.wanted.lazy
    ends = await ends_of(look.session, rooms, without_members=is_lazy)
    needed: dict[str, set[str]] = {}
    if is_lazy:
        for room_id, section in sections.items():
            needed[room_id] = {look.request.user_id, *summaries[room_id].get("m.heroes", ())} | _senders(section)
        await add_members(
            look.session, ends, {room_id: needed[room_id] | _members(sections[room_id]) for room_id in rooms}
        )
    told = {}
    for room_id, section in sections.items():
        if look.request.since is not None and room_id in look.rooms.entered:
            # There may be more than was ever here.
            section = replace(section, limited=True)
        of_room = await whole_state(look.session, room_id, section, ends[room_id], state_after=look.request.state_after)
        if is_lazy:
            of_room = replace(of_room, state=look.lazy.only(of_room, room_id, needed[room_id]))
        told[room_id] = of_room
    return Anew(told, summaries)


def _senders(section: Section) -> set[str]:
    return {stored.event.sender for stored in section.events}


def _members(section: Section) -> set[str]:
    return {stored.event.state_key or "" for stored in section.events if stored.event.type == MEMBER}
