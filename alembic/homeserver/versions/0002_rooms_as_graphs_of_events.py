"""Rooms as graphs of events, their state, and the stream that everything stands in."""

import sqlalchemy as sa
from alembic import op

from identity_server.runtime.database import Integer64, Key

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    position = op.create_table(
        "stream_position",
        sa.Column("row", Integer64, primary_key=True, autoincrement=False),
        sa.Column("position", Integer64, nullable=False),
    )
    op.bulk_insert(position, [{"row": 1, "position": 0}])
    op.create_table(
        "rooms",
        sa.Column("room_id", Key, primary_key=True),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("state_group", Integer64),
        sa.Column("created_ts", Integer64, nullable=False),
    )
    op.create_table(
        "events",
        sa.Column("event_id", Key, primary_key=True),
        sa.Column("room_id", Key, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("position", Integer64),
        sa.Column("standing", sa.Text, nullable=False),
        sa.Column("is_ours", sa.Boolean, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("state_key", sa.Text),
        sa.Column("sender", Key, nullable=False),
        sa.Column("depth", Integer64, nullable=False),
        sa.Column("origin_server_ts", Integer64, nullable=False),
        sa.Column("state_group", Integer64),
        sa.Column("pdu", sa.Text, nullable=False),
        sa.Column("redacted_by", Key),
        sa.Column("replaces_state", Key),
        sa.Column("relates_to", Key),
        sa.Column("relation_type", sa.Text),
        sa.Column("redacts", Key),
        sa.Column("device_id", Key),
        sa.Column("transaction_id", Key),
    )
    op.create_index("events_by_position", "events", ["room_id", "position"])
    op.create_index("events_in_stream", "events", ["position"])
    op.create_index("own_events_by_position", "events", ["is_ours", "position"])
    op.create_index("events_by_depth", "events", ["room_id", "depth"])
    op.create_index("events_by_time", "events", ["room_id", "origin_server_ts"])
    op.create_index("events_by_relation", "events", ["relates_to", "relation_type"])
    related = sa.text("relation_type IS NOT NULL")
    op.create_index(
        "relations_by_position",
        "events",
        ["room_id", "relation_type", "position"],
        sqlite_where=related,
        postgresql_where=related,
    )
    redacts, sent = sa.text("redacts IS NOT NULL"), sa.text("transaction_id IS NOT NULL")
    op.create_index("redactions_by_target", "events", ["redacts"], sqlite_where=redacts, postgresql_where=redacts)
    op.create_index(
        "events_by_transaction",
        "events",
        ["sender", "device_id", "transaction_id"],
        sqlite_where=sent,
        postgresql_where=sent,
    )
    op.create_table(
        "event_edges",
        sa.Column("event_id", Key, primary_key=True),
        sa.Column("prev_event_id", Key, primary_key=True, index=True),
        sa.Column("room_id", Key, nullable=False, index=True),
    )
    op.create_table(
        "forward_extremities",
        sa.Column("room_id", Key, primary_key=True),
        sa.Column("event_id", Key, primary_key=True),
    )
    op.create_table(
        "state_groups",
        sa.Column("state_group", Integer64, primary_key=True, autoincrement=True),
        sa.Column("room_id", Key, nullable=False, index=True),
        sa.Column("parent", Integer64),
        sa.Column("hops", Integer64, nullable=False),
        sa.Column("entries", sa.Text, nullable=False),
    )
    op.create_table(
        "current_state",
        sa.Column("room_id", Key, primary_key=True),
        sa.Column("type", Key, primary_key=True),
        sa.Column("state_key", Key, primary_key=True),
        sa.Column("event_id", Key, nullable=False),
    )
    op.create_table(
        "state_history",
        sa.Column("room_id", Key, primary_key=True),
        sa.Column("type", Key, primary_key=True),
        sa.Column("state_key", Key, primary_key=True),
        sa.Column("position", Integer64, primary_key=True, autoincrement=False),
        sa.Column("event_id", Key),
    )
    op.create_index("state_history_by_position", "state_history", ["room_id", "position"])
    op.create_index("state_history_in_stream", "state_history", ["position"])
    op.create_table(
        "memberships",
        sa.Column("user_id", Key, primary_key=True),
        sa.Column("room_id", Key, primary_key=True),
        sa.Column("server_name", Key, nullable=False),
        sa.Column("membership", Key, nullable=False),
        sa.Column("event_id", Key, nullable=False),
        sa.Column("sender", sa.Text, nullable=False),
        sa.Column("position", Integer64, nullable=False),
        sa.Column("joined_position", Integer64),
        sa.Column("forgotten", sa.Boolean, nullable=False),
        sa.Column("stripped_state", sa.Text),
    )
    op.create_index("members", "memberships", ["room_id", "membership", "server_name"])
    op.create_index("memberships_by_position", "memberships", ["user_id", "position"])
    op.create_table(
        "room_servers",
        sa.Column("server_name", Key, primary_key=True),
        sa.Column("room_id", Key, primary_key=True, index=True),
        sa.Column("since", Integer64, primary_key=True, autoincrement=False),
        sa.Column("until", Integer64),
    )
