"""The rooms that the user is in, as they are answered."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from identity_server.homeserver.receipts.threads import MAIN
from identity_server.homeserver.sync.anew import read_anew
from identity_server.homeserver.sync.ephemeral import receipt_events, typing_events
from identity_server.homeserver.sync.known import Recent, read_known
from identity_server.homeserver.sync.looking import Look
from identity_server.homeserver.sync.state import Told
from identity_server.homeserver.sync.timeline import Section
from identity_server.homeserver.sync.unread import Tally, in_total
from identity_server.homeserver.timeline.position import position_token


@dataclass(frozen=True)
class Joined:
    """``answers``: by room. ``moved``: whose memberships changed in rooms that the client knew.

    ``wrote``: whether there is an event of the user's among what is new in those.
    """

    answers: Mapping[str, dict[str, Any]]
    moved: frozenset[str]
    wrote: bool = False


async def joined_rooms(look: Look, account_data: Mapping[str, list[dict[str, Any]]]) -> Joined:
    """``account_data``: what is new of it, by room."""
    known, anew = await read_known(look), await read_anew(look)
    told = {**known.told, **anew.told}
    summaries = {**known.summaries, **anew.summaries}
    receipts, typing = await receipt_events(look), typing_events(look)
    state = await _state(look, told)
    # What the filter keeps from the client is no news.
    news = {room_id for room_id, of_room in told.items() if of_room.section.events or of_room.section.limited}
    news |= {*state, *look.anew, *receipts, *typing} | (account_data.keys() & look.rooms.joined.keys())
    if not news:
        return Joined({}, known.moved)
    unread = await _unread(look, news, known.recent)
    timelines = await look.show.timelines(
        look.session, {room_id: of_room.section.events for room_id, of_room in told.items()}, look.rooms.joined
    )
    nothing = Told(Section((), look.since, limited=False), {})
    answers = {}
    for room_id in sorted(news):
        section = told.get(room_id, nothing).section
        answers[room_id] = {
            "summary": summaries.get(room_id, {}),
            "timeline": {
                "events": timelines.get(room_id, []),
                "limited": section.limited,
                "prev_batch": position_token(section.start),
            },
            "state_after" if look.request.state_after else "state": {"events": state.get(room_id, [])},
            "ephemeral": {"events": [*typing.get(room_id, []), *receipts.get(room_id, [])]},
            "account_data": {"events": account_data.get(room_id, [])},
            **_counts(look, unread.get(room_id, {})),
        }
    wrote = any(
        stored.event.sender == look.request.user_id
        for of_room in known.told.values()
        for stored in of_room.section.events
    )
    return Joined(answers, known.moved, wrote)


async def _unread(look: Look, news: set[str], recent: Recent | None) -> Mapping[str, Mapping[str, Tally]]:
    return await look.parts.unread.of_rooms(
        look.session,
        look.request.user_id,
        {room_id: look.rooms.joined[room_id] for room_id in news},
        look.upto,
        rules_position=look.newest.push_rules,
        receipts_position=look.newest.own_receipts,
        ignored=look.ignored,
        recent={} if recent is None else {room_id: recent.get(room_id, []) for room_id in news - look.anew},
        since=look.since,
    )


async def _state(look: Look, told: Mapping[str, Told]) -> dict[str, list[dict[str, Any]]]:
    wanted = look.request.wanted.state
    ids = [
        event_id
        for room_id, of_room in told.items()
        if wanted.admits_room(room_id)
        for (type_, _), event_id in of_room.state.items()
        if wanted.admits_type(type_)
    ]
    return await look.show.state(look.session, ids) if ids else {}


def _counts(look: Look, threads: Mapping[str, Tally]) -> dict[str, Any]:
    if not look.request.wanted.timeline.unread_thread_notifications:
        return {"unread_notifications": in_total(threads).as_json()}
    others = {
        thread_id: tally.as_json() for thread_id, tally in threads.items() if thread_id != MAIN and tally.notifications
    }
    counts: dict[str, Any] = {"unread_notifications": threads.get(MAIN, Tally()).as_json()}
    return {**counts, "unread_thread_notifications": others} if others else counts
