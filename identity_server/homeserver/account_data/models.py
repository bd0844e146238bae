"""What users keep on their homeserver for themselves (Client-Server API, "Client Config")."""

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from identity_server.homeserver.tables import Table
from identity_server.runtime.database import Key


class AccountData(Table):
    """``content``: JSON. ``room_id`` is empty for what is of no room."""

    __tablename__ = "account_data"
    __table_args__ = (Index("account_data_by_position", "user_id", "position"),)

    user_id: Mapped[str] = mapped_column(Key, primary_key=True)
    room_id: Mapped[str] = mapped_column(Key, primary_key=True)
    type: Mapped[str] = mapped_column(Key, primary_key=True)
    content: Mapped[str]
    position: Mapped[int]
