"""An import's hashes are put in last; until then its name stands beside each pepper that they are missing under.

And an index of the few rows that lead to nobody: a table of millions was read through to remove them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.add_column("peppers", sa.Column("import_id", sa.Text))
    is_unbound = sa.text("user_id IS NULL")
    for slot in (0, 1):
        op.create_index(
            f"lookup_{slot}_unbound",
            f"lookup_{slot}",
            ["user_id"],
            sqlite_where=is_unbound,
            postgresql_where=is_unbound,
        )
