from sqlalchemy import LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from identity_server.identity.tables import Table


class AccessToken(Table):
    """That whoever holds the token with this hash is ``user_id``."""

    __tablename__ = "access_tokens"

    token_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    user_id: Mapped[str] = mapped_column(index=True)
    created_ts: Mapped[int]
    expires_ts: Mapped[int | None]
