"""Account data, filters, receipts, presence, push rules and pushers."""

import sqlalchemy as sa
from alembic import op

from identity_server.runtime.database import Integer64, Key

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "account_data",
        sa.Column("user_id", Key, primary_key=True),
        sa.Column("room_id", Key, primary_key=True),
        sa.Column("type", Key, primary_key=True),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("position", Integer64, nullable=False),
    )
    op.create_index("account_data_by_position", "account_data", ["user_id", "position"])
    op.create_table(
        "filters",
        sa.Column("user_id", Key, primary_key=True),
        sa.Column("filter_id", Key, primary_key=True),
        sa.Column("definition", sa.Text, nullable=False),
    )
    op.create_table(
        "receipts",
        sa.Column("room_id", Key, primary_key=True),
        sa.Column("user_id", Key, primary_key=True),
        sa.Column("receipt_type", Key, primary_key=True),
        sa.Column("thread_id", Key, primary_key=True),
        sa.Column("event_id", sa.Text, nullable=False),
        sa.Column("event_position", Integer64),
        sa.Column("ts", Integer64, nullable=False),
        sa.Column("position", Integer64, nullable=False),
    )
    op.create_index("receipts_in_stream", "receipts", ["position"])
    op.create_index("receipts_by_position", "receipts", ["room_id", "position"])
    op.create_index("receipts_by_user", "receipts", ["user_id", "position"])
    op.create_table(
        "presence",
        sa.Column("user_id", Key, primary_key=True),
        sa.Column("presence", sa.Text, nullable=False),
        sa.Column("status_msg", sa.Text),
        sa.Column("last_active_ts", Integer64, nullable=False),
        sa.Column("currently_active", sa.Boolean, nullable=False),
        sa.Column("position", Integer64, nullable=False, index=True),
    )
    _push()


def _push() -> None:
    op.create_table(
        "push_rules",
        sa.Column("user_id", Key, primary_key=True),
        sa.Column("rules", sa.Text, nullable=False),
        sa.Column("position", Integer64, nullable=False),
    )
    op.create_table(
        "pushers",
        sa.Column("user_id", Key, primary_key=True),
        sa.Column("app_id", Key, primary_key=True),
        sa.Column("pushkey", Key, primary_key=True),
        sa.Column("device_id", Key, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("app_display_name", sa.Text, nullable=False),
        sa.Column("device_display_name", sa.Text, nullable=False),
        sa.Column("profile_tag", sa.Text),
        sa.Column("lang", sa.Text, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.Column("set_ts", Integer64, nullable=False),
        sa.Column("position", Integer64, nullable=False),
    )
    op.create_index("pushers_by_key", "pushers", ["app_id", "pushkey"])
    op.create_index("pushers_by_device", "pushers", ["user_id", "device_id"])
    op.create_table(
        "pushed_position",
        sa.Column("row", Integer64, primary_key=True, autoincrement=False),
        sa.Column("position", Integer64, nullable=False),
    )
