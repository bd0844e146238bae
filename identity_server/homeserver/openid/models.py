from sqlalchemy import LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from identity_server.homeserver.tables import Table


class OpenIdToken(Table):
    """That whoever shows the token with this hash was sent by ``user_id``."""

    __tablename__ = "openid_tokens"

    token_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    user_id: Mapped[str]
    expires_ts: Mapped[int] = mapped_column(index=True)
