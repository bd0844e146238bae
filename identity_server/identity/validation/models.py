from sqlalchemy import Index, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from identity_server.identity.tables import Table


class ValidationSession(Table):
    """One attempt to prove that somebody owns ``address``.

    ``spelling`` is how clients that only lower-case write the address, where that differs from its folded form.
    A session that can no longer succeed is ``superseded`` by the next one for the same address and secret.
    """

    __tablename__ = "validation_sessions"
    __table_args__ = (
        Index(
            "one_live_session",
            "medium",
            "address",
            "client_secret",
            unique=True,
            sqlite_where=text("NOT superseded"),
            postgresql_where=text("NOT superseded"),
        ),
    )

    sid: Mapped[str] = mapped_column(primary_key=True)
    medium: Mapped[str]
    address: Mapped[str]
    spelling: Mapped[str | None]
    client_secret: Mapped[str]
    send_attempt: Mapped[int]
    next_link: Mapped[str | None]
    modified_ts: Mapped[int] = mapped_column(index=True)
    validated_ts: Mapped[int | None]
    wrong_tokens: Mapped[int]
    superseded: Mapped[bool]


class ValidationToken(Table):
    """A token that was sent for a session; each message that was sent keeps its own."""

    __tablename__ = "validation_tokens"

    sid: Mapped[str] = mapped_column(primary_key=True)
    token_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
