"""Whether users are there (Client-Server API, "Presence")."""

from sqlalchemy.orm import Mapped, mapped_column

from identity_server.homeserver.tables import Table
from identity_server.runtime.database import Key


class Presence(Table):
    """What was last told of a user, ours or another server's. ``last_active_ts`` is written with each change."""

    __tablename__ = "presence"

    user_id: Mapped[str] = mapped_column(Key, primary_key=True)
    presence: Mapped[str]
    status_msg: Mapped[str | None]
    last_active_ts: Mapped[int]
    currently_active: Mapped[bool]
    position: Mapped[int] = mapped_column(index=True)
