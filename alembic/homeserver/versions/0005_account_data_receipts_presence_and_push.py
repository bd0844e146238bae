"""Account data, filters, receipts, presence, and push rules."""



revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    pass
