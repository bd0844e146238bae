from sqlalchemy import Index, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from identity_server.identity.tables import Table
from identity_server.runtime.database import Key


class LogHead(Table):
    """Where the log ends: its last position, and the peaks of its Merkle tree. There is one row.

    Whoever appends locks this row until the commit, so positions have no gaps and become visible in their order.
    ``secret`` is what the nonces of the tree's commitments are derived from.
    """

    __tablename__ = "log_heads"

    log: Mapped[str] = mapped_column(primary_key=True)
    position: Mapped[int]
    peaks: Mapped[bytes] = mapped_column(LargeBinary)
    secret: Mapped[bytes] = mapped_column(LargeBinary)


class LogNode(Table):
    """The root of a complete subtree of the log's Merkle tree, at the levels that are kept."""

    __tablename__ = "log_nodes"

    level: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    hash: Mapped[bytes] = mapped_column(LargeBinary)


class LogEntry(Table):
    """What this server has stated, in order; never changed. ``user_id`` is null in a tombstone.

    ``key_id`` and ``signature``: as whoever bound it was answered; null in what was imported.
    """

    __tablename__ = "association_log"
    __table_args__ = (Index("association_log_by_address", "medium", "address"),)

    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    medium: Mapped[str]
    address: Mapped[str]
    user_id: Mapped[str | None]
    ts: Mapped[int]
    not_before: Mapped[int | None]
    not_after: Mapped[int | None]
    key_id: Mapped[str | None]
    signature: Mapped[str | None]


class CurrentAssociation(Table):
    """The winning statement about an address, whoever made it; a tombstone stays, to win over what is older.

    ``spelling`` is how clients that only lower-case write the address, where that differs.
    """

    __tablename__ = "associations"
    __table_args__ = ({"sqlite_with_rowid": False},)

    medium: Mapped[str] = mapped_column(Key, primary_key=True)
    address: Mapped[str] = mapped_column(Key, primary_key=True)
    user_id: Mapped[str | None]
    ts: Mapped[int]
    origin: Mapped[str]
    origin_id: Mapped[int]
    spelling: Mapped[str | None]
