"""Names of rooms, and which rooms are to be found by whoever looks around."""

from sqlalchemy.orm import Mapped, mapped_column

from identity_server.homeserver.tables import Table
from identity_server.runtime.database import Key


class RoomAlias(Table):
    """An alias of this server, and whose it is."""

    __tablename__ = "room_aliases"

    alias: Mapped[str] = mapped_column(Key, primary_key=True)
    room_id: Mapped[str] = mapped_column(Key, index=True)
    creator: Mapped[str]
    created_ts: Mapped[int]


class PublishedRoom(Table):
    """That the room stands in our directory."""

    __tablename__ = "published_rooms"

    room_id: Mapped[str] = mapped_column(Key, primary_key=True)
    published_ts: Mapped[int]
