"""What clients want to be told (Client-Server API, "Filtering")."""

from sqlalchemy.orm import Mapped, mapped_column

from identity_server.homeserver.tables import Table
from identity_server.runtime.database import Key


class Filter(Table):
    """``definition``: the JSON that was uploaded. The ID is a hash of it, so that the same one is kept once."""

    __tablename__ = "filters"

    user_id: Mapped[str] = mapped_column(Key, primary_key=True)
    filter_id: Mapped[str] = mapped_column(Key, primary_key=True)
    definition: Mapped[str]
