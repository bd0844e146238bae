"""Aliases, the directory of rooms, and transaction IDs."""



revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    pass
