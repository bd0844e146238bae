"""Searching what was said in one's rooms (Client-Server API, "Server Side Search")."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.event import Event, member
from identity_server.homeserver.rooms.messages import Span, read_page
from identity_server.homeserver.rooms.rights import View
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.client_format import Viewer, client_events
from identity_server.homeserver.timeline.event_filter import EventFilter, read_event_filter
from identity_server.homeserver.timeline.position import position_token
from identity_server.homeserver.timeline.relations import shown_events
from identity_server.homeserver.timeline.stored import COLUMNS, EVENTS, StoredEvent, stored_events
from identity_server.homeserver.timeline.timeline import Timeline
from identity_server.homeserver.timeline.visibility import visible_events
from identity_server.matrix.errors import BadJson, InvalidParam, MissingParam
from identity_server.runtime.database import in_chunks

_KEYS = {
    "content.body": ("m.room.message", "body"),
    "content.name": ("m.room.name", "name"),
    "content.topic": ("m.room.topic", "topic"),
}
_MOST = 100
_USUAL = 10
_MOST_READ = 2000
_MOST_WORDS = 20


@dataclass(frozen=True)
class Criteria:
    """``words``: lower-cased, all of which have to be there. ``context``: how many events before and after."""

    words: tuple[str, ...]
    keys: tuple[str, ...]
    wanted: EventFilter
    by_rank: bool
    context: tuple[int, int] | None
    with_profiles: bool
    with_state: bool
    group_by: tuple[str, ...]

    def rank(self, event: Event) -> float:
        """How closely it matches: 0 if not at all."""
        for key in self.keys:
            event_type, field = _KEYS[key]
            text = event.content.get(field) if event.type == event_type else None
            if isinstance(text, str):
                lowered = text.lower()
                if all(word in lowered for word in self.words):
                    return round(sum(len(word) * lowered.count(word) for word in self.words) / max(len(lowered), 1), 6)
        return 0.0

    def conditions(self) -> list[ColumnElement[bool]]:
        """What the rows of matching events fulfil; more of them do."""
        types = {_KEYS[key][0] for key in self.keys}
        return [EVENTS.c.type.in_(types), *(_holds(word) for word in self.words), *self.wanted.conditions()]


async def search_rooms(
    session: AsyncSession,
    timeline: Timeline,
    body: Mapping[str, Any],
    next_batch: str | None,
    *,
    viewer: Viewer,
    now_ms: int,
) -> dict[str, Any]:
    """The answer of POST /search. Raises ``MissingParam``, ``BadJson`` and ``InvalidParam``."""
    categories = body.get("search_categories")
    if not isinstance(categories, Mapping):
        raise MissingParam("search_categories is missing")
    if not isinstance(categories.get("room_events"), Mapping):
        return {"search_categories": {}}
    criteria = read_criteria(categories["room_events"])
    skip = _skip(next_batch)
    found = await _matching(session, timeline, criteria, viewer.user_id)
    limit = max(1, min(criteria.wanted.limit or _USUAL, _MOST))
    chosen = found[skip : skip + limit]
    told: dict[str, Any] = {
        "count": len(found),
        "highlights": list(criteria.words),
        "results": await _results(session, timeline, criteria, chosen, viewer=viewer, now_ms=now_ms),
    }
    if len(chosen) == limit:
        # Whether more will have come by then, only the next page can tell: clients go on until there is no token.
        told["next_batch"] = f"{skip + limit}"
    if criteria.group_by:
        told["groups"] = {key: _groups(key, chosen) for key in criteria.group_by}
    if criteria.with_state:
        told["state"] = {}
        for room_id in dict.fromkeys(stored.event.room_id for stored, _ in chosen):
            ids = await store.current_state_ids(session, room_id)
            state = list((await store.get_events(session, list(ids.values()))).values())
            told["state"][room_id] = await client_events(session, state, viewer=viewer, now_ms=now_ms)
    return {"search_categories": {"room_events": told}}


def read_criteria(asked: Mapping[str, Any]) -> Criteria:
    """Raises ``MissingParam`` and ``BadJson``."""
    term = asked.get("search_term")
    if term is None:
        raise MissingParam("search_term is missing")
    keys = asked.get("keys", list(_KEYS))
    order = asked.get("order_by", "rank")
    if not isinstance(term, str) or "\0" in term or order not in ("rank", "recent"):
        raise BadJson("search_term is a string, order_by rank or recent")
    if not isinstance(keys, list) or not all(isinstance(key, str) and key in _KEYS for key in keys):
        raise BadJson("keys are of " + ", ".join(_KEYS))
    context = asked.get("event_context")
    groupings = asked.get("groupings")
    grouped = groupings.get("group_by") if isinstance(groupings, Mapping) else None
    names = [str(group.get("key")) for group in grouped or () if isinstance(group, Mapping)]
    if any(name not in ("room_id", "sender") for name in names):
        raise BadJson("group_by is of room_id and sender")
    around = context if isinstance(context, Mapping) else {}
    return Criteria(
        words=tuple(dict.fromkeys(term.lower().split()))[:_MOST_WORDS],
        keys=tuple(keys),
        wanted=read_event_filter(asked.get("filter") or {}),
        by_rank=order == "rank",
        context=(_count(around, "before_limit"), _count(around, "after_limit")) if context is not None else None,
        with_profiles=around.get("include_profile") is True,
        with_state=asked.get("include_state") is True,
        group_by=tuple(dict.fromkeys(names)),
    )


async def _matching(
    session: AsyncSession, timeline: Timeline, criteria: Criteria, user_id: str
) -> list[tuple[StoredEvent, float]]:
    """What matches in the user's rooms, in the order that is asked for, each with its rank."""
    rooms = [room for room in await store.joined_rooms(session, user_id) if criteria.wanted.admits_room(room)]
    if not criteria.words or not criteria.keys:
        return []
    candidates: list[StoredEvent] = []
    for chunk in in_chunks(sorted(rooms)):
        statement = select(*COLUMNS).where(
            EVENTS.c.room_id.in_(chunk), EVENTS.c.position.is_not(None), *criteria.conditions()
        )
        rows = await session.execute(statement.order_by(EVENTS.c.position.desc()).limit(_MOST_READ))
        candidates += stored_events(rows)
    by_room: dict[str, list[StoredEvent]] = {}
    for stored in candidates:
        if criteria.rank(stored.event) > 0 and criteria.wanted.admits(stored.event):
            by_room.setdefault(stored.event.room_id, []).append(stored)
    seen = [
        stored
        for room_id, events in by_room.items()
        for stored in await visible_events(session, timeline.groups, room_id, events, user_id)
    ]
    # Once more: of what the erased wrote only the redacted copy counts.
    ranked = [(stored, rank) for stored in seen if (rank := criteria.rank(stored.event)) > 0]
    ranked.sort(key=lambda found: found[0].event.origin_server_ts, reverse=True)
    if criteria.by_rank:
        ranked.sort(key=lambda found: found[1], reverse=True)
    return ranked


async def _results(
    session: AsyncSession,
    timeline: Timeline,
    criteria: Criteria,
    chosen: list[tuple[StoredEvent, float]],
    *,
    viewer: Viewer,
    now_ms: int,
) -> list[dict[str, Any]]:
    shown = await shown_events(session, [stored for stored, _ in chosen], viewer=viewer, now_ms=now_ms)
    results = []
    for (stored, rank), event in zip(chosen, shown, strict=True):
        # Of all answers, clients look in this one for the sender by its oldest name.
        result: dict[str, Any] = {"rank": rank, "result": {**event, "user_id": stored.event.sender}}
        if criteria.context is not None:
            result["context"] = await _context(session, timeline, criteria, stored, viewer=viewer, now_ms=now_ms)
        results.append(result)
    return results


async def _context(
    session: AsyncSession, timeline: Timeline, criteria: Criteria, stored: StoredEvent, *, viewer: Viewer, now_ms: int
) -> dict[str, Any]:
    assert criteria.context is not None  # it is asked for
    limits, at = criteria.context, stored.position or 0
    view, everything = View(stored.event.room_id, viewer.user_id), EventFilter()
    before: list[StoredEvent] = []
    after: list[StoredEvent] = []
    if limits[0]:
        before = (await read_page(session, timeline, view, Span(True, at - 1, limit=limits[0]), everything)).events
    if limits[1]:
        after = (await read_page(session, timeline, view, Span(False, at, limit=limits[1]), everything)).events
    around = [*reversed(before), stored, *after]
    told: dict[str, Any] = {
        "start": position_token((around[0].position or 0) - 1),
        "end": position_token(around[-1].position or 0),
        "events_before": await shown_events(session, before, viewer=viewer, now_ms=now_ms),
        "events_after": await shown_events(session, after, viewer=viewer, now_ms=now_ms),
    }
    if criteria.with_profiles:
        told["profile_info"] = await _profiles(session, timeline, stored, {one.event.sender for one in around})
    return told


async def _profiles(
    session: AsyncSession, timeline: Timeline, stored: StoredEvent, senders: Iterable[str]
) -> dict[str, Any]:
    """What the senders were called at the event."""
    state = await timeline.groups.state_of(session, stored.state_group)
    ids = {sender: state[member(sender)] for sender in senders if member(sender) in state}
    events = await store.get_events(session, list(ids.values()))
    names = ("displayname", "avatar_url")
    return {
        sender: {name: value for name in names if isinstance(value := events[event_id].event.content.get(name), str)}
        for sender, event_id in ids.items()
        if event_id in events
    }


def _groups(key: str, chosen: list[tuple[StoredEvent, float]]) -> dict[str, Any]:
    groups: dict[str, Any] = {}
    for stored, _ in chosen:
        value = stored.event.room_id if key == "room_id" else stored.event.sender
        group = groups.setdefault(value, {"order": len(groups) + 1, "results": []})
        group["results"].append(stored.event_id)
    return groups


def _count(context: Mapping[str, Any], name: str) -> int:
    count = context.get(name, 5)
    return min(count, _MOST) if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else 5


def _skip(next_batch: str | None) -> int:
    if not next_batch:
        return 0
    if not next_batch.isdecimal() or len(next_batch) > 9:
        raise InvalidParam("next_batch is no token of this server")
    return int(next_batch)


def _holds(word: str) -> ColumnElement[bool]:
    """Whether the event may hold the word; letters that JSON escapes, or whose cases no engine knows, match any."""
    written = "".join(
        f"\\{letter}" if letter in "%_" else letter if letter.isascii() and letter not in '"\\' else "%"
        for letter in word
    )
    return func.lower(EVENTS.c.pdu).like(f"%{written}%", escape="\\")
