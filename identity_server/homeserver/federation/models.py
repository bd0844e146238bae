"""What is owed to other servers, what they have sent, and which keys they had."""

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from identity_server.homeserver.tables import Table
from identity_server.runtime.database import Key


class RemoteKey(Table):
    """A key that ``server_name`` had at some time: signatures until ``valid_until_ts`` count.

    Keys stay when their server is gone, so that old events can be checked for ever.
    """

    __tablename__ = "remote_keys"

    server_name: Mapped[str] = mapped_column(Key, primary_key=True)
    key_id: Mapped[str] = mapped_column(Key, primary_key=True)
    public_key: Mapped[str]
    valid_until_ts: Mapped[int]
    """The last moment at which what it signs counts."""
    is_current: Mapped[bool]
    """Whether the server's last answer lists it among those that sign requests."""


class PublishedAnswer(Table):
    """What ``server_name`` last answered when asked for its keys, as it was signed: for those who ask us."""

    __tablename__ = "published_answers"

    server_name: Mapped[str] = mapped_column(Key, primary_key=True)
    answer: Mapped[str]
    fetched_ts: Mapped[int]
    valid_until_ts: Mapped[int]


class Destination(Table):
    """How far another server has been told what our users did: of all events up to ``position``.

    While a transaction has failed, its ID and its bounds stay, so that what is sent again is the same.
    """

    __tablename__ = "destinations"

    server_name: Mapped[str] = mapped_column(Key, primary_key=True)
    position: Mapped[int]
    failures: Mapped[int] = mapped_column(default=0)
    """How often in a row it could not be reached."""
    next_try_ts: Mapped[int] = mapped_column(default=0, index=True)
    transaction_id: Mapped[str | None] = mapped_column(default=None)
    until_position: Mapped[int | None] = mapped_column(default=None)
    edu_ids: Mapped[str | None] = mapped_column(default=None)
    """JSON."""


class OutgoingEdu(Table):
    """An EDU that ``server_name`` is still to be sent. One with a ``key`` takes the place of its like."""

    __tablename__ = "outgoing_edus"
    __table_args__ = (
        Index("outgoing_edus_in_order", "server_name", "edu_id"),
        Index("outgoing_edus_by_key", "server_name", "edu_type", "key", unique=True),
        {"sqlite_autoincrement": True},  # no number is ever used twice: a batch is named by them
    )

    edu_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True, init=False)
    server_name: Mapped[str] = mapped_column(Key)
    edu_type: Mapped[str] = mapped_column(Key)
    key: Mapped[str | None] = mapped_column(Key)
    content: Mapped[str]


class ReceivedTransaction(Table):
    """How a transaction was answered, in case it is sent again."""

    __tablename__ = "received_transactions"

    origin: Mapped[str] = mapped_column(Key, primary_key=True)
    transaction_id: Mapped[str] = mapped_column(Key, primary_key=True)
    answer: Mapped[str]
    """JSON; empty while only the EDUs are dealt with."""
    received_ts: Mapped[int] = mapped_column(index=True)
