"""The rooms that the user is in: what of each is new to the client."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.receipts.threads import MAIN
from identity_server.homeserver.sync import store
from identity_server.homeserver.sync.ephemeral import receipt_events, typing_events
from identity_server.homeserver.sync.lazy import Lazy
from identity_server.homeserver.sync.news import Newest
from identity_server.homeserver.sync.parts import SyncParts
from identity_server.homeserver.sync.request import SyncRequest
from identity_server.homeserver.sync.show import Show
from identity_server.homeserver.sync.standing import Rooms
from identity_server.homeserver.sync.state import MEMBER, Told, add_members, changed_state, ends_of, whole_state
from identity_server.homeserver.sync.store import Change, Stretch
from identity_server.homeserver.sync.summary import summary_of
from identity_server.homeserver.sync.timeline import Reader, Section
from identity_server.homeserver.sync.unread import Tally, in_total
from identity_server.homeserver.timeline.position import position_token
from identity_server.homeserver.timeline.stored import StoredEvent

# What happened on the whole server is read as it is, while it is not more than this.
_FEW_EVENTS = 100
_FEW_CHANGES = 300


@dataclass(frozen=True)
class Joined:
    """``answers``: the rooms as they are answered. ``come``: users who have come into rooms, or whose rooms the user
    has come into, as far as that is told. ``moved``: whether anybody's membership changed."""

    answers: Mapping[str, dict[str, Any]]
    come: frozenset[str] = frozenset()
    moved: bool = False


@dataclass
class _Gathered:
    sections: dict[str, Section] = field(default_factory=dict)
    told: dict[str, Told] = field(default_factory=dict)
    summaries: dict[str, dict[str, Any]] = field(default_factory=dict)
    recent: dict[str, list[StoredEvent]] = field(default_factory=dict)
    """Of all rooms what happened since, if that is little."""
    know_recent: bool = False
    moved: bool = False


@dataclass(frozen=True)
class JoinedRoomsAnswer:
    """One look at the rooms, at the position ``newest.position``."""

    session: AsyncSession
    parts: SyncParts
    request: SyncRequest
    newest: Newest
    rooms: Rooms
    ignored: frozenset[str]
    show: Show
    reader: Reader

    async def gather(self, account_data: Mapping[str, list[dict[str, Any]]]) -> Joined:
        """``account_data``: what is new of it, by room."""
        anew = set(self.rooms.joined if self.request.full_state else self.rooms.entered)
        gathered = _Gathered()
        changes = await self._changes(anew, gathered)
        await self._read_known(anew, changes, gathered)
        await self._read_anew(anew, gathered)
        joined = self.rooms.joined
        receipts = await receipt_events(self.session, self.request, self.newest, joined, anew, self.ignored)
        typing = typing_events(self.parts.typing, self.request, joined, anew, self.ignored)
        news = {room_id for room_id, told in gathered.told.items() if told.state or told.section.events}
        news |= {room_id for room_id, told in gathered.told.items() if told.section.limited}
        news |= {*anew, *receipts, *typing} | (account_data.keys() & joined.keys())
        unread = await self._unread(news, gathered)
        state = await self._state(news, gathered)
        answers = {}
        for room_id in sorted(news):
            told = gathered.told.get(room_id) or Told(Section((), self.request.told, limited=False), {})
            ephemeral = [*typing.get(room_id, []), *receipts.get(room_id, [])]
            answers[room_id] = {
                "summary": gathered.summaries.get(room_id, {}),
                "timeline": await self._timeline(room_id, told.section),
                "state_after" if self.request.state_after else "state": {"events": state.get(room_id, [])},
                "ephemeral": {"events": ephemeral},
                "account_data": {"events": account_data.get(room_id, [])},
                **self._counts(unread.get(room_id, {})),
            }
        return Joined(answers, await self._come(anew, gathered, changes), gathered.moved)

    # What is read

    async def _changes(self, anew: Collection[str], gathered: _Gathered) -> Mapping[str, list[Change]]:
        """What changed of the states of the rooms that the client knows."""
        if self.request.since is None or self.newest.states <= self.request.told:
            return {}
        known = self.rooms.joined.keys() - anew
        since, upto = self.request.told, self.newest.position
        found = await store.changes_between(self.session, since, upto, limit=_FEW_CHANGES)
        if found is None:
            found = await store.changes_in(self.session, known, since, upto)
        changes: dict[str, list[Change]] = {}
        for change in found:
            if change.room_id in known:
                changes.setdefault(change.room_id, []).append(change)
                gathered.moved |= change.type == MEMBER
        return changes

    async def _read_known(
        self, anew: Collection[str], changes: Mapping[str, list[Change]], gathered: _Gathered
    ) -> None:
        """Rooms that the client knows: what is new of them."""
        if self.request.since is None:
            return
        since, upto = self.request.told, self.newest.position
        known = self.rooms.joined.keys() - anew
        sections: dict[str, Section] = {}
        if self.newest.events > since and known:
            recent = await store.events_between(self.session, since, upto, limit=_FEW_EVENTS)
            if recent is None:
                active = await store.rooms_with_events(self.session, known, since)
                stretches = [Stretch(room_id, since, upto) for room_id in sorted(active)]
                sections = await self.reader.read(self.session, stretches, self.rooms.joined.items())
            else:
                for stored in recent:
                    gathered.recent.setdefault(stored.event.room_id, []).append(stored)
                gathered.know_recent = True
                for room_id in gathered.recent.keys() & known:
                    stretch, joined = Stretch(room_id, since, upto), self.rooms.joined[room_id]
                    sections[room_id] = await self.reader.take(self.session, stretch, gathered.recent[room_id], joined)
        for room_id in sections.keys() | changes.keys():
            section = sections.get(room_id) or Section((), since, limited=False)
            told = changed_state(section, changes.get(room_id, ()), state_after=self.request.state_after)
            if told.members_changed:
                gathered.summaries[room_id] = await self._summary(room_id)
            if self.request.wanted.lazy and told.section.events:
                heroes = gathered.summaries.get(room_id, {}).get("m.heroes", ())
                told = replace(told, state=await self._lazy.add_to(told, room_id, heroes))
            gathered.told[room_id] = told

    async def _read_anew(self, anew: Collection[str], gathered: _Gathered) -> None:
        """Rooms of which the client is to be told everything."""
        if not anew:
            return
        request, upto = self.request, self.newest.position
        stretches = [
            Stretch(room_id, None if room_id in self.rooms.entered else request.told, upto) for room_id in sorted(anew)
        ]
        sections = await self.reader.read(self.session, stretches, self.rooms.joined.items())
        ends = await ends_of(self.session, sorted(anew), without_members=request.wanted.lazy)
        for room_id, section in sections.items():
            gathered.summaries[room_id] = await self._summary(room_id)
            wanted_members: set[str] = set()
            if request.wanted.lazy:
                heroes = gathered.summaries[room_id].get("m.heroes", ())
                wanted_members = {self.request.user_id, *heroes} | _senders(section)
                await add_members(self.session, room_id, ends[room_id], wanted_members | _members(section))
            if request.since is not None and room_id in self.rooms.entered:
                # There may be more than was ever here.
                section = replace(section, limited=True)
            told = await whole_state(
                self.session, room_id, section, ends[room_id].state, state_after=request.state_after
            )
            if request.wanted.lazy:
                told = replace(told, state=self._lazy.only(told, room_id, wanted_members))
            gathered.told[room_id] = told

    async def _summary(self, room_id: str) -> dict[str, Any]:
        groups = await store.state_groups_of(self.session, [room_id])
        counts = await self.parts.member_counts.of(self.session, room_id, groups.get(room_id))
        return await summary_of(self.session, room_id, counts, self.request.user_id)

    async def _unread(self, news: Collection[str], gathered: _Gathered) -> Mapping[str, Mapping[str, Tally]]:
        return await self.parts.unread.of_rooms(
            self.session,
            self.request.user_id,
            {room_id: self.rooms.joined[room_id] for room_id in news},
            self.newest.position,
            rules_position=self.newest.push_rules,
            ignored=self.ignored,
            recent={room_id: gathered.recent.get(room_id, []) for room_id in news} if gathered.know_recent else {},
            since=self.request.told,
        )

    async def _state(self, news: Collection[str], gathered: _Gathered) -> dict[str, list[dict[str, Any]]]:
        wanted = self.request.wanted.state
        ids = [
            event_id
            for room_id in news
            if room_id in gathered.told and wanted.admits_room(room_id)
            for (type_, _), event_id in gathered.told[room_id].state.items()
            if wanted.admits_type(type_)
        ]
        return await self.show.state(self.session, ids) if ids else {}

    async def _come(
        self, anew: Collection[str], gathered: _Gathered, changes: Mapping[str, Sequence[Change]]
    ) -> frozenset[str]:
        return frozenset(
            change.state_key for of_room in changes.values() for change in of_room if change.type == MEMBER
        )

    # What is answered

    async def _timeline(self, room_id: str, section: Section) -> dict[str, Any]:
        events = await self.show.timeline(
            self.session, room_id, section.events, joined=self.rooms.joined[room_id], at_end=True
        )
        return {"events": events, "limited": section.limited, "prev_batch": position_token(section.start)}

    def _counts(self, threads: Mapping[str, Tally]) -> dict[str, Any]:
        if not self.request.wanted.timeline.unread_thread_notifications:
            return {"unread_notifications": in_total(threads).as_json()}
        others = {
            thread_id: tally.as_json()
            for thread_id, tally in threads.items()
            if thread_id != MAIN and tally.notifications
        }
        counts: dict[str, Any] = {"unread_notifications": threads.get(MAIN, Tally()).as_json()}
        return {**counts, "unread_thread_notifications": others} if others else counts

    @property
    def _lazy(self) -> Lazy:
        return Lazy(self.session, self.parts.sent_members, self.request, self.newest.position)


def _senders(section: Section) -> set[str]:
    return {stored.event.sender for stored in section.events}


def _members(section: Section) -> set[str]:
    return {stored.event.state_key or "" for stored in section.events if stored.event.type == MEMBER}
