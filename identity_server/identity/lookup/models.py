from sqlalchemy import Index, Integer, text
from sqlalchemy.orm import Mapped, mapped_column

from identity_server.identity.tables import Table
from identity_server.runtime.database import Key


class Pepper(Table):
    """A pepper and the table that holds its hashes.

    ``building``: its table is being filled; ``current``: handed out by /hash_details; ``retiring``: still accepted,
    until ``accepted_until_ts``. There is one table more than there are peppers in use at any time. ``import_id``: of
    the import whose hashes are not all in the table yet.
    """

    __tablename__ = "peppers"

    pepper: Mapped[str] = mapped_column(primary_key=True)
    slot: Mapped[int] = mapped_column(Integer, unique=True)
    state: Mapped[str]
    created_ts: Mapped[int]
    accepted_until_ts: Mapped[int | None]
    import_id: Mapped[str | None]


def _unbound(name: str) -> Index:
    """Of the rows that lead to nobody."""
    is_unbound = text("user_id IS NULL")
    return Index(name, "user_id", sqlite_where=is_unbound, postgresql_where=is_unbound)


class LookupSlot0(Table):
    """Whose address hashes to ``hash``, as clients send it: the text itself is the key, so nothing is decoded.

    ``user_id`` is null where an address was unbound while the table was being filled: whoever fills it, and may still
    hold the older state in its hands, leaves such rows alone.
    """

    __tablename__ = "lookup_0"
    __table_args__ = (_unbound("lookup_0_unbound"), {"sqlite_with_rowid": False})

    hash: Mapped[str] = mapped_column(Key, primary_key=True)
    user_id: Mapped[str | None]


class LookupSlot1(Table):
    """As ``lookup_0``."""

    __tablename__ = "lookup_1"
    __table_args__ = (_unbound("lookup_1_unbound"), {"sqlite_with_rowid": False})

    hash: Mapped[str] = mapped_column(Key, primary_key=True)
    user_id: Mapped[str | None]


SLOTS: tuple[type[LookupSlot0] | type[LookupSlot1], ...] = (LookupSlot0, LookupSlot1)
