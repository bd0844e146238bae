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
from identity_server.homeserver.timeline.stored import StoredEvent

JOIN = "join"


@dataclass(frozen=True)
class Show:
    viewer: Viewer
    wanted: SyncFilter
    now_ms: int

    async def timeline(
        self, session: AsyncSession, room_id: str, events: Sequence[StoredEvent], *, joined: int | None, at_end: bool
    ) -> list[dict[str, Any]]:
        """``joined``: since when the user has been in the room. ``at_end``: nothing comes after the events."""
        memberships = await self._memberships(session, room_id, events, joined)
        unsigned = {event_id: {"membership": membership} for event_id, membership in memberships.items()}
        # What relates to an event comes after it: where these are the last, it is among them.
        if at_end and not any(_relates(stored) for stored in events):
            shown = await client_events(session, events, now_ms=self.now_ms, viewer=self.viewer, unsigned=unsigned)
        else:
            shown = await shown_events(session, events, viewer=self.viewer, now_ms=self.now_ms, unsigned=unsigned)
        return [self._finished(event, stored) for event, stored in zip(shown, events, strict=True)]

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
        self, session: AsyncSession, room_id: str, events: Sequence[StoredEvent], joined: int | None
    ) -> Mapping[str, str]:
        """What the user was at each event ("unsigned.membership")."""
        positions = {stored.event_id: stored.position or 0 for stored in events}
        if joined is not None and all(position >= joined for position in positions.values()):
            return dict.fromkeys(positions, JOIN)
        history = await store.own_memberships(session, room_id, self.viewer.user_id)
        starts = [position for position, _ in history]
        found = {}
        for event_id, position in positions.items():
            count = bisect_right(starts, position)
            found[event_id] = history[count - 1][1] if count else "leave"
        return found


def _relates(stored: StoredEvent) -> bool:
    return isinstance(stored.event.content.get("m.relates_to"), Mapping)
