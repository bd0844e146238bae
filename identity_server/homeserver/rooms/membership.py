"""Joining, inviting, leaving and knocking: the one place that decides whether a room is ours to write to.

Where it is not, other servers are asked, which takes its time: so these stories have transactions of their own, and
none is open while another server is waited for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import orjson

from identity_server.homeserver.aliases.resolve import resolve
from identity_server.homeserver.federation.calls import FederationCalls
from identity_server.homeserver.federation.joins import RemoteRooms
from identity_server.homeserver.rooms import here
from identity_server.homeserver.rooms.carry_over import carry_over, predecessor_of
from identity_server.homeserver.rooms.rights import require_joined
from identity_server.homeserver.rooms.third_party_invites import accept_signed, check_may_invite, signed_invitation
from identity_server.homeserver.threepids.invite import (
    THIRD_PARTY_INVITE,
    Bound,
    ThreepidInvitation,
    about,
    find_or_store,
)
from identity_server.homeserver.threepids.key_validity import check_keys
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.build import Draft
from identity_server.homeserver.timeline.models import Membership
from identity_server.homeserver.timeline.send import send_event
from identity_server.homeserver.timeline.timeline import Timeline
from identity_server.homeserver.validation.trusted import TrustedServers
from identity_server.matrix.errors import (
    BadGateway,
    Forbidden,
    InvalidParam,
    UnableToAuthoriseJoin,
    UnableToGrantJoin,
)
from identity_server.matrix.http import Http, Unreachable
from identity_server.matrix.identifiers import domain_of
from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database
from identity_server.runtime.dependencies import opened

_WAITING = ("invite", "knock")
_MOST_SERVERS = 20


@dataclass(frozen=True)
class Members:
    database: Database
    timeline: Timeline
    calls: FederationCalls
    remote: RemoteRooms
    http: Http
    trusted: TrustedServers
    clock: Clock

    async def join(
        self,
        user_id: str,
        room: str,
        *,
        via: Sequence[str] = (),
        content: Mapping[str, Any],
        third_party_signed: Mapping[str, Any] | None = None,
    ) -> str:
        """The room ID of ``room`` (a room ID or an alias), once the user is in it; ``content`` is of the membership.

        Raises ``NotFound`` if no server can be asked, ``Forbidden``, and what the servers that are asked say.
        """
        room_id, servers = await self._find(room, via, user_id)
        await self._enter(user_id, room_id, servers, content, third_party_signed)
        async with self.database.reading() as session:
            old = await predecessor_of(session, room_id)
        if old is not None:
            async with self.database.transaction() as session:
                await carry_over(session, self.timeline.streams, user_id, old, room_id)
        return room_id

    async def _enter(
        self,
        user_id: str,
        room_id: str,
        servers: Sequence[str],
        content: Mapping[str, Any],
        third_party_signed: Mapping[str, Any] | None,
    ) -> None:
        though_here = False
        async with self.database.reading() as session:
            is_here = await here.is_here(session, self.timeline, room_id)
        if is_here:
            if third_party_signed is not None:
                await self._check_signed(room_id, user_id, third_party_signed)
            try:
                await self._join_here(user_id, room_id, content, third_party_signed)
            except (UnableToAuthoriseJoin, UnableToGrantJoin):
                # Others in the room may know more, or may let in whom we may not.
                servers = await self._others_in(room_id)
                if not servers:
                    raise
                though_here = True
            else:
                return
        async with self.database.reading() as session:
            profile = await here.with_profile(session, self.timeline, user_id, content)
        if not await self.remote.join(room_id, servers, user_id, profile, though_here=though_here):
            await self._join_here(user_id, room_id, content, None)  # somebody else got us in meanwhile

    async def _join_here(
        self, user_id: str, room_id: str, content: Mapping[str, Any], signed: Mapping[str, Any] | None
    ) -> None:
        async with self.database.transaction() as session:
            now_ms = self.clock.now_ms()
            if signed is not None:
                await accept_signed(session, self.timeline, room_id, user_id, signed, now_ms=now_ms)
            await here.join_here(session, self.timeline, room_id, user_id, content, now_ms=now_ms)

    async def knock(self, user_id: str, room: str, *, via: Sequence[str] = (), content: Mapping[str, Any]) -> str:
        """As ``join``, but the user only asks to be let in."""
        room_id, servers = await self._find(room, via, user_id)
        async with self.database.transaction() as session:
            if await here.is_here(session, self.timeline, room_id):
                await here.knock_here(session, self.timeline, room_id, user_id, content, now_ms=self.clock.now_ms())
                return room_id
            profile = await here.with_profile(session, self.timeline, user_id, content)
        await self.remote.knock(room_id, servers, user_id, profile)
        return room_id

    async def leave(self, user_id: str, room_id: str, content: Mapping[str, Any]) -> None:
        """Also turns an invitation down, or takes back a knock. Raises ``Forbidden``."""
        async with self.database.transaction() as session:
            row = await store.membership_row(session, room_id, user_id)
            if row is not None and row.membership == "leave" and row.sender == user_id:
                return  # asked again, perhaps because the answer got lost
            if await here.is_here(session, self.timeline, room_id):
                await here.leave_here(session, self.timeline, room_id, user_id, content, now_ms=self.clock.now_ms())
                return
        if row is None or row.membership not in _WAITING:
            raise Forbidden("You are not in the room")
        servers = [*_hints(row), _domain(room_id)]
        await self.remote.leave(room_id, [server for server in servers if server], user_id, content)

    async def invite(self, sender: str, room_id: str, user_id: str, content: Mapping[str, Any]) -> None:
        """Raises ``Forbidden``, ``InvalidParam``, and what the user's server says."""
        here.check_target(user_id)
        async with self.database.transaction() as session:
            await require_joined(session, room_id, sender)
            draft = await here.invite_draft(session, self.timeline, room_id, sender, user_id, content)
            if domain_of(user_id) == self.timeline.server_name:
                await send_event(session, self.timeline, draft, now_ms=self.clock.now_ms())
                return
        await self.remote.invite(draft)

    async def invite_threepid(self, sender: str, room_id: str, invitation: ThreepidInvitation, **content: Any) -> None:
        """Invite whoever owns the address, now or once somebody does. Raises ``Forbidden`` and as ``find_or_store``."""
        async with self.database.reading() as session:
            await check_may_invite(session, room_id, sender)
            told = await about(session, room_id, sender)
        found = await find_or_store(self.http, self.trusted, invitation, room_id=room_id, sender=sender, about=told)
        if isinstance(found, Bound):
            await self.invite(sender, room_id, found.user_id, content)
            return
        draft = Draft(room_id, THIRD_PARTY_INVITE, sender, found.content, state_key=found.state_key)
        async with self.database.transaction() as session:
            await send_event(session, self.timeline, draft, now_ms=self.clock.now_ms())

    async def _check_signed(self, room_id: str, user_id: str, signed: Mapping[str, Any]) -> None:
        """Raises ``Forbidden`` unless the room knows of the invitation, and its key is still good."""
        async with self.database.reading() as session:
            invitation = await signed_invitation(session, self.timeline, room_id, user_id, signed)
        try:
            await check_keys(self.http, invitation.content, signed)
        except Unreachable as error:
            raise BadGateway("The identity server cannot be reached") from error

    async def _find(self, room: str, via: Sequence[str], user_id: str) -> tuple[str, list[str]]:
        """The room ID, and which servers may help us into it, the likeliest first."""
        named = list(via)
        if room.startswith("#"):
            found = await resolve(self.database, self.calls, room)
            room_id, named = found["room_id"], [*named, *found["servers"]]
        elif room.startswith("!") and len(room) > 1:
            room_id = room
        else:
            raise InvalidParam("This is neither a room ID nor a room alias")
        async with self.database.reading() as session:
            row = await store.membership_row(session, room_id, user_id)
        # Whoever names servers means these, and wants to know if they do not help.
        guessed = [_domain(room_id)] if set(named) <= {self.timeline.server_name} else []
        if row is not None and row.membership in _WAITING:
            guessed = [*_hints(row), *guessed]
        named += guessed
        servers = [server for server in dict.fromkeys(named) if server and server != self.timeline.server_name]
        return room_id, servers[:_MOST_SERVERS]

    async def _others_in(self, room_id: str) -> list[str]:
        async with self.database.reading() as session:
            servers = await store.servers_in_room(session, room_id)
        return sorted(servers - {self.timeline.server_name})[:_MOST_SERVERS]


OpenMembers = Annotated[Members, opened("members")]


def _hints(row: Membership) -> list[str]:
    """Servers that are in the room, as far as an invitation or the answer to a knock tells."""
    told = orjson.loads(row.stripped_state or "[]")
    senders = [row.sender, *(str(event.get("sender")) for event in told if isinstance(event, dict))]
    return [server for server in dict.fromkeys(map(_domain, senders)) if server]


def _domain(identifier: str) -> str:
    try:
        return domain_of(identifier)
    except ValueError:
        return ""
