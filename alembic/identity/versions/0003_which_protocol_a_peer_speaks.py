"""Which protocol a peer speaks."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("peers", sa.Column("protocol", sa.Text, nullable=False, server_default="native"))
