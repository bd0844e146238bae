"""An event as it stands here, read from its row."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import orjson
from sqlalchemy import Table

from identity_server.homeserver.events.event import Event
from identity_server.homeserver.events.versions import VERSIONS
from identity_server.homeserver.timeline.models import StoredEventRow

ACCEPTED = "accepted"
SOFT_FAILED = "soft_failed"
REJECTED = "rejected"
OUTLIER = "outlier"

# The table itself: what every request pays for goes past the ORM.
EVENTS = cast(Table, StoredEventRow.__table__)


@dataclass(frozen=True)
class StoredEvent:
    """``state_group`` is that after the event; ``replaces_state`` the event ID that its key held before."""

    event: Event
    position: int | None
    standing: str
    state_group: int | None
    is_ours: bool = False
    redacted_by: str | None = None
    replaces_state: str | None = None
    device_id: str | None = None
    transaction_id: str | None = None

    @property
    def event_id(self) -> str:
        return self.event.event_id


COLUMNS = (
    EVENTS.c.event_id,
    EVENTS.c.version,
    EVENTS.c.pdu,
    EVENTS.c.position,
    EVENTS.c.standing,
    EVENTS.c.state_group,
    EVENTS.c.is_ours,
    EVENTS.c.redacted_by,
    EVENTS.c.replaces_state,
    EVENTS.c.device_id,
    EVENTS.c.transaction_id,
)


def stored_event(row: Sequence[Any]) -> StoredEvent:
    """What a row of ``COLUMNS`` stands for."""
    event_id, version, pdu, position, standing, *more = row
    event = event_of(event_id, version, pdu, is_rejected=standing == REJECTED)
    return StoredEvent(event, position, standing, *more)


def stored_events(rows: Iterable[Sequence[Any]]) -> list[StoredEvent]:
    return [stored_event(row) for row in rows]


def event_of(event_id: str, version: str, pdu: str, *, is_rejected: bool = False) -> Event:
    """An event that was checked before it was stored."""
    return Event(event_id, orjson.loads(pdu), VERSIONS[version], is_rejected)
