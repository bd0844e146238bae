"""Following who begins and who ceases to share rooms with other servers.

A server that is not receiving updates of a user's devices is told of them "when that user joins a room which contains
servers which are not already receiving updates" (Server-Server API, "Device Management"). Users elsewhere with whom
ours share no room any more are forgotten: nobody tells us of their changes. Both are read off the membership events
that have come since the last look; where that was is a row.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.encryption.device_lists import store as device_lists
from identity_server.homeserver.encryption.device_lists.changes import DEVICE_LIST_UPDATE, described_devices
from identity_server.homeserver.encryption.device_lists.remote import forget
from identity_server.homeserver.federation.edus import queue_edus
from identity_server.homeserver.streams import Streams, current_position
from identity_server.homeserver.timeline import sharing
from identity_server.homeserver.timeline.sharing import Move
from identity_server.homeserver.timeline.store import is_server_in_room
from identity_server.matrix.identifiers import domain_of
from identity_server.runtime.database import Database

EVERY_MS = 1_000

_AT_ONCE = 500
_GONE = ("leave", "ban")


@dataclass(frozen=True)
class DeviceListFollower:
    database: Database
    streams: Streams
    server_name: str

    async def run_due(self, _now_ms: int) -> None:
        """Look at everything that has happened since the last time."""
        while await self._look():
            pass

    async def _look(self) -> bool:
        """Whether there may be more."""
        async with self.database.reading() as session:
            since, upto = await device_lists.followed_position(session), await current_position(session)
            moves = await sharing.moves_between(session, since, upto, limit=_AT_ONCE) if since < upto else []
        is_full = len(moves) == _AT_ONCE
        # Where nobody moves, the position is seldom worth a write.
        if moves or upto - since > _AT_ONCE:
            async with self.database.transaction() as session:
                await self._follow(session, moves, since)
                await device_lists.set_followed_position(session, moves[-1].position if is_full else upto)
        return is_full

    async def _follow(self, session: AsyncSession, moves: list[Move], since: int) -> None:
        joined: dict[str, int] = {}
        for move in moves:
            if move.joined_position is not None and move.joined_position > since and self._is_ours(move.user_id):
                joined[move.user_id] = max(move.joined_position, joined.get(move.user_id, 0))
        for user_id, position in sorted(joined.items()):
            await self._tell(session, user_id, since, position)
        await self._forget(session, [move for move in moves if move.membership in _GONE])

    async def _tell(self, session: AsyncSession, user_id: str, since: int, joined_position: int) -> None:
        """Servers to whose users ``user_id`` has come since ``since``, the last time at ``joined_position``.

        They are told the whole list, so to speak as its last update, to which the next one will refer. If there has
        been an update since, they know already that they do not know the list.
        """
        servers = await sharing.servers_sharing(session, user_id, joined_after=since)
        servers -= await sharing.servers_sharing(session, user_id, joined_until=since) | {self.server_name}
        stream_id = await device_lists.stream_id(session, user_id)
        if not servers or stream_id is None or stream_id > joined_position:
            return
        for device_id, described in (await described_devices(session, user_id)).items():
            content = {"user_id": user_id, "device_id": device_id, "stream_id": stream_id, "prev_id": [], **described}
            await queue_edus(session, servers, DEVICE_LIST_UPDATE, content, streams=self.streams)

    async def _forget(self, session: AsyncSession, gone: Iterable[Move]) -> None:
        candidates: set[str] = set()
        for move in gone:
            if not self._is_ours(move.user_id):
                candidates.add(move.user_id)
            elif not await is_server_in_room(session, move.room_id, self.server_name):
                candidates |= await sharing.joined_users_of(session, [move.room_id])
        kept = await device_lists.kept_users(session, candidates)
        await forget(session, kept - await sharing.shared_with_server(session, kept, self.server_name))

    def _is_ours(self, user_id: str) -> bool:
        return domain_of(user_id) == self.server_name
