"""Rooms as graphs of events, and what is known of their state: at every event, at every position, and now."""

from typing import Any

from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from identity_server.homeserver.tables import Table
from identity_server.runtime.database import Key

_WHERE_REDACTS: dict[str, Any] = {f"{engine}_where": text("redacts IS NOT NULL") for engine in ("sqlite", "postgresql")}
_WHERE_RELATED: dict[str, Any] = {
    f"{engine}_where": text("relation_type IS NOT NULL") for engine in ("sqlite", "postgresql")
}
_WHERE_SENT: dict[str, Any] = {
    f"{engine}_where": text("transaction_id IS NOT NULL") for engine in ("sqlite", "postgresql")
}


class Room(Table):
    """A room that we are or were in. Its row is locked by whoever appends to it."""

    __tablename__ = "rooms"

    room_id: Mapped[str] = mapped_column(Key, primary_key=True)
    version: Mapped[str]
    state_group: Mapped[int | None]
    """The current state: that after all forward extremities."""
    created_ts: Mapped[int]


class StoredEventRow(Table):
    """An event as it is federated, and how it stands here.

    ``position`` orders the room's history: positive in the stream, in the order of arrival; negative for what was
    fetched from before we joined. Null: it is no part of the history (an outlier, rejected or soft-failed).
    """

    __tablename__ = "events"
    __table_args__ = (
        Index("events_by_position", "room_id", "position"),
        Index("events_in_stream", "position"),
        Index("own_events_by_position", "is_ours", "position"),
        Index("events_by_depth", "room_id", "depth"),
        Index("events_by_time", "room_id", "origin_server_ts"),
        Index("events_by_relation", "relates_to", "relation_type"),
        Index("relations_by_position", "room_id", "relation_type", "position", **_WHERE_RELATED),
        Index("redactions_by_target", "redacts", **_WHERE_REDACTS),
        Index("events_by_transaction", "sender", "device_id", "transaction_id", **_WHERE_SENT),
    )

    event_id: Mapped[str] = mapped_column(Key, primary_key=True)
    room_id: Mapped[str] = mapped_column(Key)
    version: Mapped[str]
    """The room's version: how the event is to be read, also where we know no more of the room."""
    position: Mapped[int | None]
    standing: Mapped[str]
    """``accepted``, ``soft_failed``, ``rejected``, or ``outlier``: known, but not the state at it."""
    is_ours: Mapped[bool]
    """Sent by a user of ours, and so to be told to the room's other servers."""
    type: Mapped[str]
    state_key: Mapped[str | None]
    sender: Mapped[str] = mapped_column(Key)
    depth: Mapped[int]
    origin_server_ts: Mapped[int]
    state_group: Mapped[int | None]
    """The state after the event."""
    pdu: Mapped[str]
    redacted_by: Mapped[str | None] = mapped_column(Key, default=None)
    """The event ID of the redaction that holds; ``pdu`` is pruned already."""
    replaces_state: Mapped[str | None] = mapped_column(Key, default=None)
    """Of a state event: the event ID that stood under its key before."""
    relates_to: Mapped[str | None] = mapped_column(Key, default=None)
    """``m.relates_to.event_id`` and ``rel_type`` of the content."""
    relation_type: Mapped[str | None] = mapped_column(default=None)
    redacts: Mapped[str | None] = mapped_column(Key, default=None)
    """Of a redaction: the event ID that it is about. It has no position until it is known to hold."""
    device_id: Mapped[str | None] = mapped_column(Key, default=None)
    """Of an event that a device of ours sent: which, and under which ``transaction_id``."""
    transaction_id: Mapped[str | None] = mapped_column(Key, default=None)


class EventEdge(Table):
    """That ``event_id`` names ``prev_event_id`` as a parent; the parent may be unknown here."""

    __tablename__ = "event_edges"

    event_id: Mapped[str] = mapped_column(Key, primary_key=True)
    prev_event_id: Mapped[str] = mapped_column(Key, primary_key=True, index=True)
    room_id: Mapped[str] = mapped_column(Key, index=True)


class HistoryGap(Table):
    """That before the event at ``position`` there are others that no server told us when it came."""

    __tablename__ = "history_gaps"
    __table_args__ = (Index("history_gaps_in_stream", "position"),)

    room_id: Mapped[str] = mapped_column(Key, primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)


class ForwardExtremity(Table):
    """An accepted event that no accepted event names as a parent yet."""

    __tablename__ = "forward_extremities"

    room_id: Mapped[str] = mapped_column(Key, primary_key=True)
    event_id: Mapped[str] = mapped_column(Key, primary_key=True)


class StateGroup(Table):
    """A room's whole state at some event: JSON of ``[[type, state_key, event_id], …]`` over that of ``parent``.

    A group without a parent is complete; ``hops`` counts the parents up to one.
    """

    __tablename__ = "state_groups"

    state_group: Mapped[int] = mapped_column(primary_key=True, autoincrement=True, init=False)
    room_id: Mapped[str] = mapped_column(Key, index=True)
    parent: Mapped[int | None]
    hops: Mapped[int]
    entries: Mapped[str]


class CurrentState(Table):
    """The room's state now, by key."""

    __tablename__ = "current_state"

    room_id: Mapped[str] = mapped_column(Key, primary_key=True)
    type: Mapped[str] = mapped_column(Key, primary_key=True)
    state_key: Mapped[str] = mapped_column(Key, primary_key=True)
    event_id: Mapped[str] = mapped_column(Key)


class StateChange(Table):
    """That from ``position`` on the current state held ``event_id`` (null: nothing) under the key.

    It answers what the current state was at any position of the stream, which is what a client has been told.
    """

    __tablename__ = "state_history"
    __table_args__ = (
        Index("state_history_by_position", "room_id", "position"),
        Index("state_history_in_stream", "position"),
    )

    room_id: Mapped[str] = mapped_column(Key, primary_key=True)
    type: Mapped[str] = mapped_column(Key, primary_key=True)
    state_key: Mapped[str] = mapped_column(Key, primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    event_id: Mapped[str | None] = mapped_column(Key)


class Membership(Table):
    """Where a user stands with a room now: what ``m.room.member`` says, also in rooms that we are not in ourselves."""

    __tablename__ = "memberships"
    __table_args__ = (
        Index("members", "room_id", "membership", "server_name"),
        Index("memberships_by_position", "user_id", "position"),
    )

    user_id: Mapped[str] = mapped_column(Key, primary_key=True)
    room_id: Mapped[str] = mapped_column(Key, primary_key=True)
    server_name: Mapped[str] = mapped_column(Key)
    """The user's."""
    membership: Mapped[str] = mapped_column(Key)
    event_id: Mapped[str] = mapped_column(Key)
    sender: Mapped[str]
    position: Mapped[int]
    joined_position: Mapped[int | None]
    """Since when the user has been joined without a break; null while not."""
    forgotten: Mapped[bool] = mapped_column(default=False)
    stripped_state: Mapped[str | None] = mapped_column(default=None)
    """Of an invitation or a knock: JSON of the stripped state events that it came with."""


class RoomServer(Table):
    """That users of ``server_name`` were joined to the room for positions ``since`` < p <= ``until`` (null: still)."""

    __tablename__ = "room_servers"

    server_name: Mapped[str] = mapped_column(Key, primary_key=True)
    room_id: Mapped[str] = mapped_column(Key, primary_key=True, index=True)
    since: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    until: Mapped[int | None]
