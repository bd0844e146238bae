"""Whose events are redacted for those who were not there."""

import sqlalchemy as sa
from alembic import op

from identity_server.runtime.database import Integer64

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("accounts", sa.Column("erased_ts", Integer64, nullable=True))
