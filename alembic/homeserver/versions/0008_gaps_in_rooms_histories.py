"""Where a room's history has gaps that no server could fill."""

import sqlalchemy as sa
from alembic import op

from identity_server.runtime.database import Integer64, Key

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.create_table(
        "history_gaps",
        sa.Column("room_id", Key, primary_key=True),
        sa.Column("position", Integer64, primary_key=True, autoincrement=False),
    )
    op.create_index("history_gaps_in_stream", "history_gaps", ["position"])
