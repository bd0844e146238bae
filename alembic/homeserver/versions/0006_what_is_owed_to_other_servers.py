"""What is owed to other servers, and what is known of them."""

import sqlalchemy as sa
from alembic import op

from identity_server.runtime.database import Integer64, Key

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "remote_keys",
        sa.Column("server_name", Key, primary_key=True),
        sa.Column("key_id", Key, primary_key=True),
        sa.Column("public_key", sa.Text, nullable=False),
        sa.Column("valid_until_ts", Integer64, nullable=False),
        sa.Column("is_current", sa.Boolean, nullable=False),
    )
    op.create_table(
        "published_answers",
        sa.Column("server_name", Key, primary_key=True),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("fetched_ts", Integer64, nullable=False),
        sa.Column("valid_until_ts", Integer64, nullable=False),
    )
    op.create_table(
        "destinations",
        sa.Column("server_name", Key, primary_key=True),
        sa.Column("position", Integer64, nullable=False),
        sa.Column("failures", Integer64, nullable=False),
        sa.Column("next_try_ts", Integer64, nullable=False, index=True),
        sa.Column("transaction_id", sa.Text),
        sa.Column("until_position", Integer64),
        sa.Column("edu_ids", sa.Text),
    )
    op.create_table(
        "outgoing_edus",
        sa.Column("edu_id", Integer64, primary_key=True, autoincrement=True),
        sa.Column("server_name", Key, nullable=False),
        sa.Column("edu_type", Key, nullable=False),
        sa.Column("key", Key),
        sa.Column("content", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("outgoing_edus_in_order", "outgoing_edus", ["server_name", "edu_id"])
    op.create_index("outgoing_edus_by_key", "outgoing_edus", ["server_name", "edu_type", "key"], unique=True)
    op.create_table(
        "received_transactions",
        sa.Column("origin", Key, primary_key=True),
        sa.Column("transaction_id", Key, primary_key=True),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("received_ts", Integer64, nullable=False, index=True),
    )
