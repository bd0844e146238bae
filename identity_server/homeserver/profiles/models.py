from sqlalchemy.orm import Mapped, mapped_column

from identity_server.homeserver.tables import Table
from identity_server.runtime.database import Key


class ProfileField(Table):
    """What a user of ours says of themselves under one key; ``value`` is JSON."""

    __tablename__ = "profile_fields"

    user_id: Mapped[str] = mapped_column(Key, primary_key=True)
    field: Mapped[str] = mapped_column(Key, primary_key=True)
    value: Mapped[str]
