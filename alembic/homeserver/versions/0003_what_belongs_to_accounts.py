"""What belongs to accounts: profiles, refresh tokens, addresses, media."""

import sqlalchemy as sa
from alembic import op

from identity_server.runtime.database import Integer64, Key

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("accounts", sa.Column("deactivated_ts", Integer64))
    op.add_column("interactive_sessions", sa.Column("proven", sa.Text, nullable=False, server_default="[]"))
    op.add_column("devices", sa.Column("last_seen_ts", Integer64))
    op.add_column("devices", sa.Column("last_seen_ip", sa.Text))
    op.add_column("access_tokens", sa.Column("expires_ts", Integer64))
    op.add_column("access_tokens", sa.Column("came_with", sa.LargeBinary))
    op.add_column("access_tokens", sa.Column("unused", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_index("tokens_by_refresh_token", "access_tokens", ["came_with"])
    op.add_column("pending_threepid_invites", sa.Column("taken_ts", Integer64))
    op.create_table(
        "refresh_tokens",
        sa.Column("token_hash", sa.LargeBinary, primary_key=True),
        sa.Column("user_id", Key, nullable=False),
        sa.Column("device_id", Key, nullable=False),
        sa.Column("created_ts", Integer64, nullable=False),
        sa.Column("replaced_by", sa.LargeBinary, index=True),
        sa.ForeignKeyConstraint(
            ["user_id", "device_id"],
            ["devices.user_id", "devices.device_id"],
            "refresh_token_of_device",
            ondelete="CASCADE",
        ),
    )
    op.create_index("refresh_tokens_by_device", "refresh_tokens", ["user_id", "device_id"])
    op.create_table(
        "account_threepids",
        sa.Column("medium", Key, primary_key=True),
        sa.Column("address", Key, primary_key=True),
        sa.Column("user_id", Key, nullable=False, index=True),
        sa.Column("validated_ts", Integer64, nullable=False),
        sa.Column("added_ts", Integer64, nullable=False),
    )
    op.create_table(
        "identity_bindings",
        sa.Column("user_id", Key, primary_key=True),
        sa.Column("medium", Key, primary_key=True),
        sa.Column("address", Key, primary_key=True),
        sa.Column("id_server", Key, primary_key=True),
        sa.Column("bound_ts", Integer64, nullable=False),
    )
    op.create_table(
        "identity_server_tokens",
        sa.Column("id_server", Key, primary_key=True),
        sa.Column("token", sa.Text, nullable=False),
        sa.Column("issued_ts", Integer64, nullable=False),
    )
    op.create_table(
        "profile_fields",
        sa.Column("user_id", Key, primary_key=True),
        sa.Column("field", Key, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.create_table(
        "media",
        sa.Column("server_name", Key, primary_key=True),
        sa.Column("media_id", Key, primary_key=True),
        sa.Column("uploader", Key, index=True),
        sa.Column("content_type", sa.Text),
        sa.Column("file_name", sa.Text),
        sa.Column("size", Integer64),
        sa.Column("created_ts", Integer64, nullable=False),
        sa.Column("expires_ts", Integer64, index=True),
    )
