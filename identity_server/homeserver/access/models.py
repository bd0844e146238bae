from sqlalchemy import ForeignKeyConstraint, Index, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from identity_server.homeserver.tables import Table
from identity_server.runtime.database import Key


class Device(Table):
    """Where ``user_id`` is logged in."""

    __tablename__ = "devices"

    user_id: Mapped[str] = mapped_column(Key, primary_key=True)
    device_id: Mapped[str] = mapped_column(Key, primary_key=True)
    display_name: Mapped[str | None]
    created_ts: Mapped[int]


class AccessToken(Table):
    """That whoever holds the token with this hash is ``user_id`` on that device; it goes when the device goes."""

    __tablename__ = "access_tokens"
    __table_args__ = (
        ForeignKeyConstraint(
            ["user_id", "device_id"], ["devices.user_id", "devices.device_id"], "token_of_device", ondelete="CASCADE"
        ),
        Index("tokens_by_device", "user_id", "device_id"),
    )

    token_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    user_id: Mapped[str] = mapped_column(Key)
    device_id: Mapped[str] = mapped_column(Key)
    created_ts: Mapped[int]
