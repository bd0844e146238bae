"""What users bring to the attention of whoever runs the server."""

from sqlalchemy.orm import Mapped, mapped_column

from identity_server.homeserver.tables import Table
from identity_server.runtime.database import Key


class Report(Table):
    """That ``reporter`` objects to ``subject``: a room ID, event ID or user ID."""

    __tablename__ = "reports"

    report_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True, init=False)
    reporter: Mapped[str] = mapped_column(Key, index=True)
    subject: Mapped[str] = mapped_column(Key, index=True)
    room_id: Mapped[str | None] = mapped_column(Key)
    """Of an event: the room that it is in."""
    reason: Mapped[str | None]
    score: Mapped[int | None]
    """-100 (most offensive) to 0 (inoffensive)."""
    created_ts: Mapped[int]
