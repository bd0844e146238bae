"""Indexes for the purge, which would read whole tables every hour, on SQLite with every other writer waiting."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_index("ix_invites_expires_ts", "invites", ["expires_ts"])
    for name, table, column in (
        ("access_tokens_that_expire", "access_tokens", "expires_ts"),
        ("ix_invites_revoked_ts", "invites", "revoked_ts"),
        ("ix_invites_claimed_ts", "invites", "claimed_ts"),
    ):
        is_set = sa.text(f"{column} IS NOT NULL")
        op.create_index(name, table, [column], sqlite_where=is_set, postgresql_where=is_set)
