from sqlalchemy import Index, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from identity_server.identity.tables import Table

NATIVE, SYDENT = "native", "sydent"


class Peer(Table):
    """Another identity server whose proofs our operator trusts.

    ``protocol``: ``NATIVE``, or ``SYDENT``: that has no signed log, only ids, and ``base_url`` may be empty.
    ``sent_position``: how far it has our log. ``taken_position`` and ``taken_peaks``: how far we have its log, and
    that log's Merkle tree there; ``head``: the newest tree head that it signed, as JSON. ``alarm``: why it is no
    longer believed, until a person has looked.
    """

    __tablename__ = "peers"

    name: Mapped[str] = mapped_column(primary_key=True)
    base_url: Mapped[str]
    rules: Mapped[str]
    added_ts: Mapped[int]
    expires_ts: Mapped[int | None]
    paused: Mapped[bool]
    sent_position: Mapped[int]
    taken_position: Mapped[int]
    taken_peaks: Mapped[bytes] = mapped_column(LargeBinary)
    head: Mapped[str | None]
    alarm: Mapped[str | None]
    failures: Mapped[int]
    last_error: Mapped[str | None]
    next_try_ts: Mapped[int]
    last_contact_ts: Mapped[int | None]
    protocol: Mapped[str] = mapped_column(default=NATIVE, server_default=NATIVE)

    def is_over(self, now_ms: int) -> bool:
        """Whether the time is over for which it was to be trusted."""
        return self.expires_ts is not None and self.expires_ts <= now_ms

    def is_trusted(self, now_ms: int) -> bool:
        return not self.paused and not self.is_over(now_ms)


class PeerKey(Table):
    """A long-term key of a peer: the one its operator showed ours, or one that such a key has vouched for."""

    __tablename__ = "peer_keys"

    peer: Mapped[str] = mapped_column(primary_key=True)
    key_id: Mapped[str] = mapped_column(primary_key=True)
    public_key: Mapped[str]
    added_ts: Mapped[int]


# The year 2100: associations end later than that, all but those which are meant to end.
ENDS_SOON = text("peer_statements.not_after < 4102444800000")


class PeerStatement(Table):
    """What a peer has stated in its own name, at the position that it has in the peer's log."""

    __tablename__ = "peer_statements"
    __table_args__ = (
        Index("peer_statements_by_address", "medium", "address"),
        Index(
            "peer_statements_that_end",
            "not_after",
            sqlite_where=text("not_after < 4102444800000"),
            postgresql_where=text("not_after < 4102444800000"),
        ),
    )

    origin: Mapped[str] = mapped_column(primary_key=True)
    origin_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    medium: Mapped[str]
    address: Mapped[str]
    user_id: Mapped[str | None]
    ts: Mapped[int]
    not_before: Mapped[int | None]
    not_after: Mapped[int | None]


class SetAside(Table):
    """A statement that was refused, and why: ours by a peer (``of_ours``), or a peer's by us. The rest went on."""

    __tablename__ = "statements_set_aside"

    peer: Mapped[str] = mapped_column(primary_key=True)
    of_ours: Mapped[bool] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    reason: Mapped[str]
    set_aside_ts: Mapped[int]
