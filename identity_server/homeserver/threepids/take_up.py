"""Making room invitations of what an identity server told ("Third-party invites", of the Server-Server API).

In a room that we are in, the invitation is an event that we send for the inviter; its proof is the identity server's
signature. Otherwise the inviter's server is asked to invite.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.federation.calls import FederationCalls, federation_path
from identity_server.homeserver.threepids import store
from identity_server.homeserver.threepids.invite import THIRD_PARTY_INVITE
from identity_server.homeserver.threepids.key_validity import check_keys
from identity_server.homeserver.threepids.models import PendingThreepidInvite
from identity_server.homeserver.timeline import store as rooms
from identity_server.homeserver.timeline.build import Draft
from identity_server.homeserver.timeline.send import send_event
from identity_server.homeserver.timeline.timeline import Timeline
from identity_server.matrix.errors import MatrixError
from identity_server.matrix.http import Http, Unreachable
from identity_server.matrix.identifiers import domain_of
from identity_server.matrix.json_api import Refused
from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database
from identity_server.runtime.dependencies import opened
from identity_server.runtime.tasks import GiveUp, Payload

TAKE_UP = "third-party invite"
_MOMENT_SECONDS = 5


@dataclass(frozen=True)
class TakingUp:
    """The durable task; its payload is the ``digest`` of a pending invitation, in hexadecimal digits."""

    database: Database
    timeline: Timeline
    calls: FederationCalls
    http: Http
    clock: Clock

    async def at_once(self, digests: Iterable[bytes]) -> None:
        """What can be taken up within a moment: who bound the address may want to join right away."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_MOMENT_SECONDS):
                for digest in digests:
                    with contextlib.suppress(GiveUp, MatrixError, Refused, Unreachable):  # the task tries again
                        await self.run({"digest": digest.hex()})

    async def run(self, payload: Payload) -> None:
        digest = bytes.fromhex(payload["digest"])
        async with self.database.reading() as session:
            invite = await store.pending_invite(session, digest)
            ours = invite is not None and await self._is_in_room(session, invite.room_id)
        if invite is None or invite.taken_ts is not None:
            return
        try:
            await (self._send(invite) if ours else self._ask_the_inviters_server(invite))
        except Refused as refusal:
            if refusal.status >= 500 or refusal.status == 429:
                raise
            raise GiveUp from refusal
        except MatrixError as error:  # what the room does not allow it does not allow later either
            raise GiveUp from error

    async def _is_in_room(self, session: AsyncSession, room_id: str) -> bool:
        return self.timeline.server_name in await rooms.servers_in_room(session, room_id)

    async def _send(self, invite: PendingThreepidInvite) -> None:
        signed = orjson.loads(invite.signed)
        async with self.database.reading() as session:
            invitation = await rooms.state_event(session, invite.room_id, THIRD_PARTY_INVITE, signed["token"])
        if invitation is None:
            raise GiveUp
        await check_keys(self.http, invitation.content, signed)
        content = _content(signed, invitation.content.get("display_name"))
        draft = Draft(invite.room_id, "m.room.member", invitation.sender, content, invite.user_id)
        async with self.database.transaction() as session:
            if await rooms.membership(session, invite.room_id, invite.user_id) not in ("join", "invite"):
                await send_event(session, self.timeline, draft, now_ms=self.clock.now_ms())
            await store.mark_taken(session, invite.digest, now_ms=self.clock.now_ms())

    async def _ask_the_inviters_server(self, invite: PendingThreepidInvite) -> None:
        partial = {
            "type": "m.room.member",
            "room_id": invite.room_id,
            "sender": invite.sender,
            "state_key": invite.user_id,
            "content": _content(orjson.loads(invite.signed), None),
        }
        path = federation_path("exchange_third_party_invite", invite.room_id)
        await self.calls.put(domain_of(invite.sender), path, partial)
        async with self.database.transaction() as session:
            await store.mark_taken(session, invite.digest, now_ms=self.clock.now_ms())


OpenTakingUp = Annotated[TakingUp, opened("taking_up")]


def _content(signed: dict[str, Any], display_name: Any) -> dict[str, Any]:
    """Of ``m.room.member``. Who is not in the room does not know the name that is displayed; its servers do."""
    named = display_name if isinstance(display_name, str) else ""
    return {"membership": "invite", "third_party_invite": {"display_name": named, "signed": signed}}
