"""What belongs to accounts: profiles, refresh tokens, addresses, media."""



revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    pass
