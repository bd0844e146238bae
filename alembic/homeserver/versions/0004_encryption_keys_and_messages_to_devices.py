"""Encryption keys, their changes and backups, and messages to devices."""

import sqlalchemy as sa
from alembic import op

from identity_server.runtime.database import Integer64, Key

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    _keys()
    _device_lists()
    _to_device()
    _backups()


def _keys() -> None:
    op.create_table(
        "device_keys",
        sa.Column("user_id", Key, primary_key=True),
        sa.Column("device_id", Key, primary_key=True),
        sa.Column("keys", sa.Text, nullable=False),
    )
    op.create_table(
        "one_time_keys",
        sa.Column("upload_order", Integer64, primary_key=True, autoincrement=True),
        sa.Column("user_id", Key, nullable=False),
        sa.Column("device_id", Key, nullable=False),
        sa.Column("algorithm", Key, nullable=False),
        sa.Column("key_id", Key, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.UniqueConstraint("user_id", "device_id", "algorithm", "key_id", name="one_time_key_ids"),
    )
    op.create_index("one_time_keys_in_order", "one_time_keys", ["user_id", "device_id", "algorithm", "upload_order"])
    op.create_table(
        "fallback_keys",
        sa.Column("user_id", Key, primary_key=True),
        sa.Column("device_id", Key, primary_key=True),
        sa.Column("algorithm", Key, primary_key=True),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("used", sa.Boolean, nullable=False),
    )
    op.create_table(
        "cross_signing_keys",
        sa.Column("user_id", Key, primary_key=True),
        sa.Column("usage", Key, primary_key=True),
        sa.Column("public_key", sa.Text, nullable=False),
        sa.Column("keys", sa.Text, nullable=False),
    )
    op.create_table(
        "key_signatures",
        sa.Column("user_id", Key, primary_key=True),
        sa.Column("key_id", Key, primary_key=True),
        sa.Column("signer", Key, primary_key=True),
        sa.Column("signing_key_id", Key, primary_key=True),
        sa.Column("signature", sa.Text, nullable=False),
    )


def _device_lists() -> None:
    op.create_table(
        "device_list_changes",
        sa.Column("user_id", Key, primary_key=True),
        sa.Column("seen_by", Key, primary_key=True),
        sa.Column("position", Integer64, nullable=False),
        sa.Column("stream_id", Integer64),
    )
    op.create_index("device_list_changes_by_position", "device_list_changes", ["position"])
    op.create_table(
        "remote_device_lists",
        sa.Column("user_id", Key, primary_key=True),
        sa.Column("stream_id", Integer64),
        sa.Column("is_current", sa.Boolean, nullable=False),
        sa.Column("due_ts", Integer64, nullable=False),
        sa.Column("attempts", Integer64, nullable=False),
        sa.Column("position", Integer64, nullable=False),
    )
    op.create_index("stale_device_lists", "remote_device_lists", ["is_current", "due_ts"])
    op.create_table(
        "remote_devices",
        sa.Column("user_id", Key, primary_key=True),
        sa.Column("device_id", Key, primary_key=True),
        sa.Column("display_name", sa.Text),
        sa.Column("keys", sa.Text),
    )
    op.create_table(
        "followed_position",
        sa.Column("row", Integer64, primary_key=True, autoincrement=False),
        sa.Column("position", Integer64, nullable=False),
    )


def _to_device() -> None:
    op.create_table(
        "to_device_messages",
        sa.Column("user_id", Key, primary_key=True),
        sa.Column("device_id", Key, primary_key=True),
        sa.Column("position", Integer64, primary_key=True, autoincrement=False),
        sa.Column("sender", sa.Text, nullable=False),
        sa.Column("type", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
    )
    op.create_table(
        "to_device_transactions",
        sa.Column("user_id", Key, primary_key=True),
        sa.Column("device_id", Key, primary_key=True),
        sa.Column("type", Key, primary_key=True),
        sa.Column("txn_id", Key, primary_key=True),
        sa.Column("sent_ts", Integer64, nullable=False, index=True),
    )
    op.create_table(
        "received_to_device",
        sa.Column("origin", Key, primary_key=True),
        sa.Column("message_id", Key, primary_key=True),
        sa.Column("received_ts", Integer64, nullable=False, index=True),
    )


def _backups() -> None:
    op.create_table(
        "key_backups",
        sa.Column("user_id", Key, primary_key=True),
        sa.Column("version", Integer64, primary_key=True, autoincrement=False),
        sa.Column("algorithm", sa.Text, nullable=False),
        sa.Column("auth_data", sa.Text, nullable=False),
        sa.Column("etag", Integer64, nullable=False),
        sa.Column("count", Integer64, nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
    )
    op.create_table(
        "backed_up_keys",
        sa.Column("user_id", Key, primary_key=True),
        sa.Column("version", Integer64, primary_key=True, autoincrement=False),
        sa.Column("room_id", Key, primary_key=True),
        sa.Column("session_id", Key, primary_key=True),
        sa.Column("first_message_index", Integer64, nullable=False),
        sa.Column("forwarded_count", Integer64, nullable=False),
        sa.Column("is_verified", sa.Boolean, nullable=False),
        sa.Column("session_data", sa.Text, nullable=False),
    )
