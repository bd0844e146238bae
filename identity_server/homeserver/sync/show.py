"""Events in the form that the client asked for."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.sync import store
from identity_server.homeserver.sync.filter import SyncFilter, keep_fields
from identity_server.homeserver.timeline import store as timeline
from identity_server.homeserver.timeline.client_format import Viewer, client_event, client_events
from identity_server.homeserver.timeline.relations import shown_events
from identity_server.homeserver.timeline.store import JOIN
from identity_server.homeserver.timeline.stored import StoredEvent

_NEVER = 2**63


@dataclass(frozen=True)
class Show:
    viewer: Viewer
    wanted: SyncFilter
    now_ms: int

    async def timelines(
        self,
        session: AsyncSession,
        events: Mapping[str, Sequence[StoredEvent]],
        joined: Mapping[str, int],
        *,
        at_end: bool = True,
    ) -> dict[str, list[dict[str, Any]]]:
        """By room. ``joined``: since when the user has been in each, where that is so without a break.

        ``at_end``: whether what comes after the events of a room is among them.
        """
        memberships = await self._memberships(session, events, joined)
        unsigned = {event_id: {"membership": membership} for event_id, membership in memberships.items()}
        # What relates to an event comes after it: where these are the last, it would be among them.
        plain = [room_id for room_id, of_room in events.items() if at_end and not self._relates(of_room)]
        together = [stored for room_id in plain for stored in events[room_id]]
        shown = await client_events(session, together, now_ms=self.now_ms, viewer=self.viewer, unsigned=unsigned)
        for room_id in events.keys() - plain:
            of_room = events[room_id]
            together += of_room
            shown += await shown_events(session, of_room, viewer=self.viewer, now_ms=self.now_ms, unsigned=unsigned)
        finished: dict[str, list[dict[str, Any]]] = {}
        for event, stored in zip(shown, together, strict=True):
            finished.setdefault(stored.event.room_id, []).append(self._finished(event, stored))
        return finished

    async def state(self, session: AsyncSession, ids: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
        """State events by room, those that the filter admits."""
        found = await timeline.get_events(session, list(ids))
        redactions = {stored.redacted_by for stored in found.values() if stored.redacted_by}
        redacting = await timeline.get_events(session, redactions) if redactions else {}
        shown: dict[str, list[dict[str, Any]]] = {}
        for stored in found.values():
            if self.wanted.state.admits(stored.event):
                event = client_event(
                    stored,
                    now_ms=self.now_ms,
                    viewer=self.viewer,
                    redaction=redacting.get(stored.redacted_by) if stored.redacted_by else None,
                )
                shown.setdefault(stored.event.room_id, []).append(self._finished(event, stored))
        return shown

    def _finished(self, event: dict[str, Any], stored: StoredEvent) -> dict[str, Any]:
        if self.wanted.as_federated:
            event = {**stored.event.pdu, "event_id": stored.event_id, "unsigned": event["unsigned"]}
        else:
            event.pop("room_id", None)  # it stands above
        fields = self.wanted.event_fields
        return event if fields is None else keep_fields(event, fields)

    async def _memberships(
        self, session: AsyncSession, events: Mapping[str, Sequence[StoredEvent]], joined: Mapping[str, int]
    ) -> Mapping[str, str]:
        """What the user was at each event ("unsigned.membership")."""
        found = {stored.event_id: JOIN for of_room in events.values() for stored in of_room}
        before = {
            room_id: of_room
            for room_id, of_room in events.items()
            if any((stored.position or 0) < joined.get(room_id, _NEVER) for stored in of_room)
        }
        history = await store.own_memberships(session, before, self.viewer.user_id) if before else {}
        for room_id, of_room in before.items():
            starts = [position for position, _ in history[room_id]]
            for stored in of_room:
                # A membership event that ended an invitation elsewhere has no position, and is the last.
                count = bisect_right(starts, _NEVER if stored.position is None else stored.position)
                found[stored.event_id] = history[room_id][count - 1][1] if count else "leave"
        return found

    def _relates(self, events: Sequence[StoredEvent]) -> bool:
        """Whether something might relate to one of the events."""
        wanted = self.wanted.timeline
        hides = wanted.types is not None or wanted.not_types or wanted.senders is not None or wanted.not_senders
        return bool(hides) or any(isinstance(stored.event.content.get("m.relates_to"), Mapping) for stored in events)
