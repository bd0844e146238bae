"""One look at everything, at one position of the stream: what its parts share."""

from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.sync.lazy import Lazy
from identity_server.homeserver.sync.news import Newest
from identity_server.homeserver.sync.parts import SyncParts
from identity_server.homeserver.sync.request import SyncRequest
from identity_server.homeserver.sync.show import Show
from identity_server.homeserver.sync.standing import Rooms
from identity_server.homeserver.sync.timeline import Reader


@dataclass(frozen=True)
class Look:
    """All statements of ``session`` see the same state of the database, that at the position ``upto``."""

    session: AsyncSession
    parts: SyncParts
    request: SyncRequest
    newest: Newest
    rooms: Rooms
    ignored: frozenset[str]
    now_ms: int

    @property
    def since(self) -> int:
        return self.request.told

    @property
    def upto(self) -> int:
        return self.newest.position

    @property
    def anew(self) -> frozenset[str]:
        """The joined rooms of which the client is to be told everything."""
        return frozenset(self.rooms.joined) if self.request.full_state else self.rooms.entered

    @property
    def show(self) -> Show:
        return Show(self.request.viewer, self.request.wanted, self.now_ms)

    @property
    def reader(self) -> Reader:
        wanted = self.request.wanted
        return Reader(self.parts.groups, self.request.user_id, wanted.timeline, wanted.timeline_limit, self.ignored)

    @property
    def lazy(self) -> Lazy:
        return Lazy(self.session, self.parts.sent_members, self.request, self.upto)
