"""Encryption keys, their changes and backups, and messages to devices."""



revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    pass
