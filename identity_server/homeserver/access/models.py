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
    last_seen_ts: Mapped[int | None] = mapped_column(default=None)
    """To the minute or so, as is ``last_seen_ip``."""
    last_seen_ip: Mapped[str | None] = mapped_column(default=None)


class AccessToken(Table):
    """That whoever holds the token with this hash is ``user_id`` on that device; it goes when the device goes."""

    __tablename__ = "access_tokens"
    __table_args__ = (
        ForeignKeyConstraint(
            ["user_id", "device_id"], ["devices.user_id", "devices.device_id"], "token_of_device", ondelete="CASCADE"
        ),
        Index("tokens_by_device", "user_id", "device_id"),
        Index("tokens_by_refresh_token", "came_with"),
    )

    token_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    user_id: Mapped[str] = mapped_column(Key)
    device_id: Mapped[str] = mapped_column(Key)
    created_ts: Mapped[int]
    expires_ts: Mapped[int | None] = mapped_column(default=None)
    came_with: Mapped[bytes | None] = mapped_column(LargeBinary, default=None)
    """The hash of the refresh token that was given out with it."""
    unused: Mapped[bool] = mapped_column(default=False)
    """That it came of a refresh whose tokens are still to be seen: its first use revokes what was before."""


class RefreshToken(Table):
    """That whoever holds the token with this hash may have new tokens for the device.

    Once it has been used it is good until what it was used for is used, in case the answer got lost.
    """

    __tablename__ = "refresh_tokens"
    __table_args__ = (
        ForeignKeyConstraint(
            ["user_id", "device_id"],
            ["devices.user_id", "devices.device_id"],
            "refresh_token_of_device",
            ondelete="CASCADE",
        ),
        Index("refresh_tokens_by_device", "user_id", "device_id"),
    )

    token_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    user_id: Mapped[str] = mapped_column(Key)
    device_id: Mapped[str] = mapped_column(Key)
    created_ts: Mapped[int]
    replaced_by: Mapped[bytes | None] = mapped_column(LargeBinary, index=True, default=None)
    """The hash of the refresh token that it was last exchanged for."""
