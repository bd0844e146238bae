from sqlalchemy import Index, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from identity_server.identity.tables import Table


class AccessToken(Table):
    """That whoever holds the token with this hash is ``user_id``."""

    __tablename__ = "access_tokens"
    __table_args__ = (
        Index(
            "access_tokens_that_expire",
            "expires_ts",
            sqlite_where=text("expires_ts IS NOT NULL"),
            postgresql_where=text("expires_ts IS NOT NULL"),
        ),
    )

    token_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    user_id: Mapped[str] = mapped_column(index=True)
    created_ts: Mapped[int]
    expires_ts: Mapped[int | None]
