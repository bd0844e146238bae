from sqlalchemy import LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from identity_server.homeserver.tables import Table
from identity_server.runtime.database import Key


class ThreepidBinding(Table):
    """That somebody told us, as identity servers do, that ``user_id`` bound this address. No proof of it."""

    __tablename__ = "threepid_bindings"

    user_id: Mapped[str] = mapped_column(Key, primary_key=True)
    medium: Mapped[str] = mapped_column(Key, primary_key=True)
    address: Mapped[str] = mapped_column(Key, primary_key=True)
    told_ts: Mapped[int]


class PendingThreepidInvite(Table):
    """An invitation to ``room_id`` that ``sender`` gave to an address, which ``user_id`` can now take up.

    ``signed`` is JSON; whether its signature is that of the room's identity server is seen when it is taken up.
    """

    __tablename__ = "pending_threepid_invites"

    digest: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    user_id: Mapped[str] = mapped_column(Key, index=True)
    medium: Mapped[str]
    address: Mapped[str]
    room_id: Mapped[str]
    sender: Mapped[str]
    signed: Mapped[str]
    told_ts: Mapped[int]
    taken_ts: Mapped[int | None] = mapped_column(default=None)
    """When an invitation to the room was made of it."""


class IdentityBinding(Table):
    """That ``user_id`` bound the address at ``id_server`` through us, so that deactivating can undo it."""

    __tablename__ = "identity_bindings"

    user_id: Mapped[str] = mapped_column(Key, primary_key=True)
    medium: Mapped[str] = mapped_column(Key, primary_key=True)
    address: Mapped[str] = mapped_column(Key, primary_key=True)
    id_server: Mapped[str] = mapped_column(Key, primary_key=True)
    """As the client named it."""
    bound_ts: Mapped[int]
