from sqlalchemy.orm import Mapped, mapped_column

from identity_server.homeserver.tables import Table
from identity_server.runtime.database import Key


class Account(Table):
    """A user of this homeserver."""

    __tablename__ = "accounts"

    user_id: Mapped[str] = mapped_column(Key, primary_key=True)
    password_hash: Mapped[str]
    created_ts: Mapped[int]


class InteractiveSession(Table):
    """How far somebody has come with the stages that ``operation`` asks for; ``completed`` parts them by spaces."""

    __tablename__ = "interactive_sessions"

    session_id: Mapped[str] = mapped_column(Key, primary_key=True)
    operation: Mapped[str]
    completed: Mapped[str]
    created_ts: Mapped[int] = mapped_column(index=True)
