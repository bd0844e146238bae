from sqlalchemy.orm import Mapped, mapped_column

from identity_server.homeserver.tables import Table
from identity_server.runtime.database import Key


class Account(Table):
    """A user of this homeserver."""

    __tablename__ = "accounts"

    user_id: Mapped[str] = mapped_column(Key, primary_key=True)
    password_hash: Mapped[str]
    created_ts: Mapped[int]
    deactivated_ts: Mapped[int | None] = mapped_column(default=None)
    erased_ts: Mapped[int | None] = mapped_column(default=None)
    """When its owner, going, asked that what they wrote be shown to nobody new."""


class AccountThreepid(Table):
    """That the account's owner has proven the address ("Adding Account Administrative Contact Information")."""

    __tablename__ = "account_threepids"

    medium: Mapped[str] = mapped_column(Key, primary_key=True)
    address: Mapped[str] = mapped_column(Key, primary_key=True)
    user_id: Mapped[str] = mapped_column(Key, index=True)
    validated_ts: Mapped[int]
    added_ts: Mapped[int]


class InteractiveSession(Table):
    """How far somebody has come with the stages that ``operation`` asks for; ``completed`` parts them by spaces."""

    __tablename__ = "interactive_sessions"

    session_id: Mapped[str] = mapped_column(Key, primary_key=True)
    operation: Mapped[str]
    completed: Mapped[str]
    created_ts: Mapped[int] = mapped_column(index=True)
    proven: Mapped[str] = mapped_column(default="[]")
    """The 3PIDs that its stages have proven: JSON of ``[[medium, address, validated_ts], …]``."""
