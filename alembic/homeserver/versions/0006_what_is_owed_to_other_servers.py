"""What is owed to other servers, and what is known of them."""



revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    pass
