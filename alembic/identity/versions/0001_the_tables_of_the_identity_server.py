"""The tables of the identity server."""

import os

import sqlalchemy as sa
from alembic import op

from identity_server.runtime.database import Integer64, Key

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "access_tokens",
        sa.Column("token_hash", sa.LargeBinary, primary_key=True),
        sa.Column("user_id", sa.Text, nullable=False, index=True),
        sa.Column("created_ts", Integer64, nullable=False),
        sa.Column("expires_ts", Integer64),
    )
    op.create_table(
        "terms_acceptances",
        sa.Column("user_id", sa.Text, primary_key=True),
        sa.Column("url", sa.Text, primary_key=True),
        sa.Column("accepted_ts", Integer64, nullable=False),
    )
    op.create_table(
        "validation_sessions",
        sa.Column("sid", sa.Text, primary_key=True),
        sa.Column("medium", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("spelling", sa.Text),
        sa.Column("client_secret", sa.Text, nullable=False),
        sa.Column("send_attempt", Integer64, nullable=False),
        sa.Column("next_link", sa.Text),
        sa.Column("modified_ts", Integer64, nullable=False, index=True),
        sa.Column("validated_ts", Integer64),
        sa.Column("wrong_tokens", Integer64, nullable=False),
        sa.Column("superseded", sa.Boolean, nullable=False),
    )
    op.create_index(
        "one_live_session",
        "validation_sessions",
        ["medium", "address", "client_secret"],
        unique=True,
        sqlite_where=sa.text("NOT superseded"),
        postgresql_where=sa.text("NOT superseded"),
    )
    op.create_table(
        "validation_tokens",
        sa.Column("sid", sa.Text, primary_key=True),
        sa.Column("token_hash", sa.LargeBinary, primary_key=True),
    )
    log_heads = op.create_table(
        "log_heads",
        sa.Column("log", sa.Text, primary_key=True),
        sa.Column("position", Integer64, nullable=False),
        sa.Column("peaks", sa.LargeBinary, nullable=False),
        sa.Column("secret", sa.LargeBinary, nullable=False),
    )
    op.bulk_insert(log_heads, [{"log": "associations", "position": 0, "peaks": b"", "secret": os.urandom(32)}])
    op.create_table(
        "log_nodes",
        sa.Column("level", Integer64, primary_key=True, autoincrement=False),
        sa.Column("number", Integer64, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "association_log",
        sa.Column("position", Integer64, primary_key=True, autoincrement=False),
        sa.Column("medium", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("user_id", sa.Text),
        sa.Column("ts", Integer64, nullable=False),
        sa.Column("not_before", Integer64),
        sa.Column("not_after", Integer64),
        sa.Column("key_id", sa.Text),
        sa.Column("signature", sa.Text),
    )
    op.create_index("association_log_by_address", "association_log", ["medium", "address"])
    op.create_table(
        "associations",
        sa.Column("medium", Key, primary_key=True),
        sa.Column("address", Key, primary_key=True),
        sa.Column("user_id", sa.Text),
        sa.Column("ts", Integer64, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("origin_id", Integer64, nullable=False),
        sa.Column("spelling", sa.Text),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "peppers",
        sa.Column("pepper", sa.Text, primary_key=True),
        sa.Column("slot", sa.Integer, nullable=False, unique=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("created_ts", Integer64, nullable=False),
        sa.Column("accepted_until_ts", Integer64),
    )
    for slot in (0, 1):
        op.create_table(
            f"lookup_{slot}",
            sa.Column("hash", Key, primary_key=True),
            sa.Column("user_id", sa.Text),
            sqlite_with_rowid=False,
        )
    op.create_table(
        "invites",
        sa.Column("token", sa.Text, primary_key=True),
        sa.Column("medium", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("room_id", sa.Text, nullable=False),
        sa.Column("sender", sa.Text, nullable=False),
        sa.Column("public_key", sa.Text, nullable=False, unique=True),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("created_ts", Integer64, nullable=False),
        sa.Column("expires_ts", Integer64, nullable=False),
        sa.Column("claimed_ts", Integer64),
        sa.Column("claimed_by", sa.Text),
        sa.Column("revoked_ts", Integer64),
    )
    op.create_index("invites_by_address", "invites", ["medium", "address"])
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
