from sqlalchemy.orm import Mapped, mapped_column

from identity_server.homeserver.tables import Table
from identity_server.runtime.database import Key


class Media(Table):
    """Content of ours, or a copy of another server's; the bytes lie in a file."""

    __tablename__ = "media"

    server_name: Mapped[str] = mapped_column(Key, primary_key=True)
    media_id: Mapped[str] = mapped_column(Key, primary_key=True)
    created_ts: Mapped[int]
    uploader: Mapped[str | None] = mapped_column(Key, index=True, default=None)
    content_type: Mapped[str | None] = mapped_column(default=None)
    file_name: Mapped[str | None] = mapped_column(default=None)
    size: Mapped[int | None] = mapped_column(default=None)
    """In bytes; null as long as nothing has been uploaded."""
    expires_ts: Mapped[int | None] = mapped_column(index=True, default=None)
    """Until when the upload has to begin, of a media ID that was given out before its content."""
