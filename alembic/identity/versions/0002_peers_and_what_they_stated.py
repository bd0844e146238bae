"""Peers and what they stated."""

import sqlalchemy as sa
from alembic import op

from identity_server.runtime.database import Integer64

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "peers",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("base_url", sa.Text, nullable=False),
        sa.Column("rules", sa.Text, nullable=False),
        sa.Column("added_ts", Integer64, nullable=False),
        sa.Column("expires_ts", Integer64),
        sa.Column("paused", sa.Boolean, nullable=False),
        sa.Column("sent_position", Integer64, nullable=False),
        sa.Column("taken_position", Integer64, nullable=False),
        sa.Column("taken_peaks", sa.LargeBinary, nullable=False),
        sa.Column("head", sa.Text),
        sa.Column("alarm", sa.Text),
        sa.Column("failures", Integer64, nullable=False),
        sa.Column("last_error", sa.Text),
        sa.Column("next_try_ts", Integer64, nullable=False),
        sa.Column("last_contact_ts", Integer64),
    )
    op.create_table(
        "peer_keys",
        sa.Column("peer", sa.Text, primary_key=True),
        sa.Column("key_id", sa.Text, primary_key=True),
        sa.Column("public_key", sa.Text, nullable=False),
        sa.Column("added_ts", Integer64, nullable=False),
    )
    op.create_table(
        "peer_statements",
        sa.Column("origin", sa.Text, primary_key=True),
        sa.Column("origin_id", Integer64, primary_key=True, autoincrement=False),
        sa.Column("medium", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text),
        sa.Column("ts", Integer64, nullable=False),
        sa.Column("not_before", Integer64),
        sa.Column("not_after", Integer64),
    )
    op.create_index("peer_statements_by_address", "peer_statements", ["medium", "address"])
    op.create_index(
        "peer_statements_that_end",
        "peer_statements",
        ["not_after"],
        sqlite_where=sa.text("not_after < 4102444800000"),
        postgresql_where=sa.text("not_after < 4102444800000"),
    )
    op.create_table(
        "statements_set_aside",
        sa.Column("peer", sa.Text, primary_key=True),
        sa.Column("of_ours", sa.Boolean, primary_key=True),
        sa.Column("position", Integer64, primary_key=True, autoincrement=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("set_aside_ts", Integer64, nullable=False),
    )
