"""Aliases, the directory of rooms, and what users report."""

import sqlalchemy as sa
from alembic import op

from identity_server.runtime.database import Integer64, Key

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "room_aliases",
        sa.Column("alias", Key, primary_key=True),
        sa.Column("room_id", Key, nullable=False, index=True),
        sa.Column("creator", sa.Text, nullable=False),
        sa.Column("created_ts", Integer64, nullable=False),
    )
    op.create_table(
        "published_rooms",
        sa.Column("room_id", Key, primary_key=True),
        sa.Column("published_ts", Integer64, nullable=False),
    )
    op.create_table(
        "reports",
        sa.Column("report_id", Integer64, primary_key=True, autoincrement=True),
        sa.Column("reporter", Key, nullable=False, index=True),
        sa.Column("subject", Key, nullable=False, index=True),
        sa.Column("room_id", Key),
        sa.Column("reason", sa.Text),
        sa.Column("score", Integer64),
        sa.Column("created_ts", Integer64, nullable=False),
    )
