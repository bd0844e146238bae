"""Ending an account (Client-Server API, "Account deactivation"): it spans whatever is kept of a user."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.access.removal import DeviceWatchers, remove_all_devices
from identity_server.homeserver.account_data import store as account_data
from identity_server.homeserver.accounts import store as accounts
from identity_server.homeserver.accounts.interactive import Proof, finish
from identity_server.homeserver.encryption.forget import forget_account
from identity_server.homeserver.presence import store as presence
from identity_server.homeserver.presence.attendance import Attendance
from identity_server.homeserver.profiles import store as profiles
from identity_server.homeserver.push import store as push
from identity_server.homeserver.rooms.membership import Members
from identity_server.homeserver.threepids import store as threepids
from identity_server.homeserver.threepids.unbind import Binding, Unbinder, keep_trying, known_bindings, unbind_all
from identity_server.homeserver.timeline import store as rooms
from identity_server.matrix.errors import MatrixError
from identity_server.matrix.http import Unreachable
from identity_server.matrix.json_api import Refused
from identity_server.runtime.database import Database, after_commit
from identity_server.runtime.dependencies import opened
from identity_server.runtime.tasks import Payload, Tasks

LEAVE = "leave rooms"

_AT_ONCE = 50
_AGAIN_AFTER_MS = 60_000
_PRESENT = ("join", "invite", "knock")


@dataclass(frozen=True)
class Deactivation:
    database: Database
    members: Members
    unbinder: Unbinder
    watchers: DeviceWatchers
    attendance: Attendance
    tasks: Tasks

    async def deactivate(self, proof: Proof, user_id: str, *, id_server: str | None, erase: bool, now_ms: int) -> str:
        """The ``id_server_unbind_result``. Transactions around the identity servers, and one for each room.

        Once the account's own is committed, what other servers have to be told is done even if we stop before.
        """
        async with self.database.reading() as session:
            bindings = await known_bindings(session, user_id, self.unbinder.trusted)
        if id_server is not None:
            bindings = [Binding(threepid, id_server) for threepid in {binding.threepid for binding in bindings}]
        result, _done, unreached = await unbind_all(self.unbinder, bindings, user_id)
        async with self.database.transaction() as session:
            await finish(session, proof)
            await self._end(session, user_id, erase=erase, now_ms=now_ms)
            await keep_trying(session, self.tasks, unreached, user_id, now_ms=now_ms)
            await self.tasks.enqueue(session, LEAVE, {"user_id": user_id}, now_ms=now_ms + _AGAIN_AFTER_MS)
        await self._leave(user_id, at_most=_AT_ONCE)
        return result

    async def _end(self, session: AsyncSession, user_id: str, *, erase: bool, now_ms: int) -> None:
        await accounts.deactivate(session, user_id, erase=erase, now_ms=now_ms)
        await accounts.remove_threepids(session, user_id)
        await threepids.forget_all(session, user_id)
        await forget_account(session, user_id)
        await push.erase(session, user_id)
        if erase:
            await profiles.erase(session, user_id)
            await account_data.erase(session, user_id)
            await presence.erase(session, user_id)
            after_commit(session, partial(self.attendance.forget, user_id))
        await remove_all_devices(session, user_id, watchers=self.watchers)

    async def run(self, payload: Payload) -> None:
        """The durable task: leaves what is left to leave. Raises if a server could not be told yet."""
        if failure := await self._leave(payload["user_id"]):
            raise failure

    async def _leave(self, user_id: str, *, at_most: int | None = None) -> Exception | None:
        failure: Exception | None = None
        async with self.database.reading() as session:
            present = await rooms.memberships_of(session, user_id, *_PRESENT)
        for row in present[:at_most]:
            try:
                await self.members.leave(user_id, row.room_id, {})
            except (MatrixError, Refused, Unreachable) as error:
                failure = error
        return failure


OpenDeactivation = Annotated[Deactivation, opened("deactivation")]
