"""Accounts, devices and their tokens, and what identity servers tell."""

import sqlalchemy as sa
from alembic import op

from identity_server.runtime.database import Integer64, Key

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "accounts",
        sa.Column("user_id", Key, primary_key=True),
        sa.Column("password_hash", sa.Text, nullable=False),
        sa.Column("created_ts", Integer64, nullable=False),
    )
    op.create_table(
        "interactive_sessions",
        sa.Column("session_id", Key, primary_key=True),
        sa.Column("operation", sa.Text, nullable=False),
        sa.Column("completed", sa.Text, nullable=False),
        sa.Column("created_ts", Integer64, nullable=False, index=True),
    )
    op.create_table(
        "devices",
        sa.Column("user_id", Key, primary_key=True),
        sa.Column("device_id", Key, primary_key=True),
        sa.Column("display_name", sa.Text),
        sa.Column("created_ts", Integer64, nullable=False),
    )
    op.create_table(
        "access_tokens",
        sa.Column("token_hash", sa.LargeBinary, primary_key=True),
        sa.Column("user_id", Key, nullable=False),
        sa.Column("device_id", Key, nullable=False),
        sa.Column("created_ts", Integer64, nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id", "device_id"], ["devices.user_id", "devices.device_id"], "token_of_device", ondelete="CASCADE"
        ),
    )
    op.create_index("tokens_by_device", "access_tokens", ["user_id", "device_id"])
    op.create_table(
        "openid_tokens",
        sa.Column("token_hash", sa.LargeBinary, primary_key=True),
        sa.Column("user_id", sa.Text, nullable=False),
        sa.Column("expires_ts", Integer64, nullable=False, index=True),
    )
    op.create_table(
        "threepid_bindings",
        sa.Column("user_id", Key, primary_key=True),
        sa.Column("medium", Key, primary_key=True),
        sa.Column("address", Key, primary_key=True),
        sa.Column("told_ts", Integer64, nullable=False),
    )
    op.create_table(
        "pending_threepid_invites",
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("user_id", Key, nullable=False, index=True),
        sa.Column("medium", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("room_id", sa.Text, nullable=False),
        sa.Column("sender", sa.Text, nullable=False),
        sa.Column("signed", sa.Text, nullable=False),
        sa.Column("told_ts", Integer64, nullable=False),
    )
    op.create_table(
        "tasks",
        sa.Column("task_id", Integer64, primary_key=True, autoincrement=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("payload", sa.Text, nullable=False),
        sa.Column("created_ts", Integer64, nullable=False),
        sa.Column("due_ts", Integer64, nullable=False, index=True),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("last_error", sa.Text),
    )
    op.create_table(
        "leases",
        sa.Column("work", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("until_ts", Integer64, nullable=False),
    )
