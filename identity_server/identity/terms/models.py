from sqlalchemy.orm import Mapped, mapped_column

from identity_server.identity.tables import Table


class Acceptance(Table):
    """That ``user_id`` accepted the text at ``url``."""

    __tablename__ = "terms_acceptances"

    user_id: Mapped[str] = mapped_column(primary_key=True)
    url: Mapped[str] = mapped_column(primary_key=True)
    accepted_ts: Mapped[int]
