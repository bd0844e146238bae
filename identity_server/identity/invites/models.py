from sqlalchemy import Index, text
from sqlalchemy.orm import Mapped, mapped_column

from identity_server.identity.tables import Table


class Invite(Table):
    """An invitation of an address into a room, waiting for whoever binds the address.

    ``public_key`` is the ephemeral one, as it was given out; its private half is in the message to the invitee only.
    ``key_id`` is the long-term key that was given out beside it.
    """

    __tablename__ = "invites"
    __table_args__ = (
        Index("invites_by_address", "medium", "address"),
        # For the purge: what has expired, was revoked, or was claimed long ago.
        Index("ix_invites_expires_ts", "expires_ts"),
        *(
            Index(
                f"ix_invites_{name}",
                name,
                sqlite_where=text(f"{name} IS NOT NULL"),
                postgresql_where=text(f"{name} IS NOT NULL"),
            )
            for name in ("revoked_ts", "claimed_ts")
        ),
    )

    token: Mapped[str] = mapped_column(primary_key=True)
    medium: Mapped[str]
    address: Mapped[str]
    room_id: Mapped[str]
    sender: Mapped[str]
    public_key: Mapped[str] = mapped_column(unique=True)
    key_id: Mapped[str]
    created_ts: Mapped[int]
    expires_ts: Mapped[int]
    claimed_ts: Mapped[int | None]
    claimed_by: Mapped[str | None]
    revoked_ts: Mapped[int | None]
