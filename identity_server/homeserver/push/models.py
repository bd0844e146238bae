"""What users want to be notified of, and where (Client-Server API, "Push Notifications")."""

from sqlalchemy import Index
from sqlalchemy.orm import Mapped, mapped_column

from identity_server.homeserver.tables import Table
from identity_server.runtime.database import Key


class PushRules(Table):
    """JSON of what a user's rules have beyond the predefined ones (``ruleset.py``: ``Customised``)."""

    __tablename__ = "push_rules"

    user_id: Mapped[str] = mapped_column(Key, primary_key=True)
    rules: Mapped[str]
    position: Mapped[int]


class Pusher(Table):
    """A push gateway that is told of what a user is to be notified of; ``device_id`` set it."""

    __tablename__ = "pushers"
    __table_args__ = (
        Index("pushers_by_key", "app_id", "pushkey"),
        Index("pushers_by_device", "user_id", "device_id"),
    )

    user_id: Mapped[str] = mapped_column(Key, primary_key=True)
    app_id: Mapped[str] = mapped_column(Key, primary_key=True)
    pushkey: Mapped[str] = mapped_column(Key, primary_key=True)
    device_id: Mapped[str] = mapped_column(Key)
    kind: Mapped[str]
    app_display_name: Mapped[str]
    device_display_name: Mapped[str]
    profile_tag: Mapped[str | None]
    lang: Mapped[str]
    data: Mapped[str]
    """JSON."""
    set_ts: Mapped[int]
    position: Mapped[int]
    """Events after it are told of."""


class PushedPosition(Table):
    """Up to which position of the stream every event has been looked at for push."""

    __tablename__ = "pushed_position"

    row: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    position: Mapped[int]
