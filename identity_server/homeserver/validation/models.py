from sqlalchemy.orm import Mapped, mapped_column

from identity_server.homeserver.tables import Table
from identity_server.runtime.database import Key


class IdentityServerToken(Table):
    """The access token of this homeserver's own account at an identity server."""

    __tablename__ = "identity_server_tokens"

    id_server: Mapped[str] = mapped_column(Key, primary_key=True)
    """Its base URL."""
    token: Mapped[str]
    issued_ts: Mapped[int]
