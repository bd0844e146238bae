"""How far users have read (Client-Server API, "Receipts")."""

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from identity_server.homeserver.tables import Table
from identity_server.runtime.database import Key


class Receipt(Table):
    """``thread_id``: the thread root's event ID, ``main``, or empty for an unthreaded receipt."""

    __tablename__ = "receipts"
    __table_args__ = (
        Index("receipts_in_stream", "position"),
        Index("receipts_by_position", "room_id", "position"),
        Index("receipts_by_user", "user_id", "position"),
    )

    room_id: Mapped[str] = mapped_column(Key, primary_key=True)
    user_id: Mapped[str] = mapped_column(Key, primary_key=True)
    receipt_type: Mapped[str] = mapped_column(Key, primary_key=True)
    thread_id: Mapped[str] = mapped_column(Key, primary_key=True)
    event_id: Mapped[str]
    event_position: Mapped[int | None]
    """Of the event; null if it is not known here."""
    ts: Mapped[int]
    position: Mapped[int]
