"""Helping users of other servers into our rooms and out of them (Server-Server API, "Joining Rooms", "Knocking upon a
room", "Leaving Rooms").

They ask for a template, and come back with the event that they made of it.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.auth_rules import authorise
from identity_server.homeserver.events.event import Event
from identity_server.homeserver.events.hashing import countersign
from identity_server.homeserver.events.reading import read_event
from identity_server.homeserver.events.signatures import AUTHORISED_VIA
from identity_server.homeserver.events.versions import RoomVersion
from identity_server.homeserver.federation.acl import version_of_our_room
from identity_server.homeserver.federation.checks import BadSignature, check_event
from identity_server.homeserver.federation.receive import Receiver
from identity_server.homeserver.federation.restricted import authoriser_for
from identity_server.homeserver.timeline.build import Draft, unsigned_pdu
from identity_server.homeserver.timeline.room import lock_room
from identity_server.homeserver.timeline.send import state_for
from identity_server.matrix.errors import Forbidden, IncompatibleRoomVersion, InvalidParam
from identity_server.matrix.identifiers import check_user_id, domain_of
from identity_server.runtime.dependencies import opened

MEMBER = "m.room.member"


@dataclass(frozen=True)
class Handshakes:
    receiver: Receiver

    async def offer(
        self,
        session: AsyncSession,
        origin: str,
        room_id: str,
        user_id: str,
        membership: str,
        *,
        versions: Collection[str] | None,
        now_ms: int,
    ) -> dict[str, Any]:
        """The answer to ``make_join``, ``make_knock`` and ``make_leave``; ``versions``: which ones ``origin`` speaks.

        Raises ``NotFound``, ``Forbidden``, ``IncompatibleRoomVersion``, and what ``authoriser_for`` raises.
        """
        timeline = self.receiver.timeline
        if not is_user_of(user_id, origin):
            raise Forbidden("The user is not a user of your server")
        version = await version_of_our_room(session, room_id, origin, timeline.server_name)
        if versions is not None and version.identifier not in versions:
            raise IncompatibleRoomVersion(
                "Your homeserver does not support the features required to join this room",
                room_version=version.identifier,
            )
        content: dict[str, Any] = {"membership": membership}
        if membership == "join":
            authoriser = await authoriser_for(session, room_id, version, user_id, timeline.server_name)
            if authoriser is not None:
                content[AUTHORISED_VIA] = authoriser
        room = await lock_room(session, room_id)
        draft = Draft(room_id, MEMBER, user_id, content, state_key=user_id)
        _, state = await state_for(session, timeline, room, draft)
        template = unsigned_pdu(room, draft, state, now_ms=now_ms)
        # As if we had signed it already: that is what the authorising server will do.
        signed = {**template, "signatures": {timeline.server_name: {"": ""}}}
        authorise(Event("", signed, version), state)
        return {"room_version": version.identifier, "event": {**template, "origin": timeline.server_name}}

    async def accept(self, origin: str, room_id: str, event_id: str, pdu: dict[str, Any], membership: str) -> Event:
        """The event of ``send_join``, ``send_knock`` or ``send_leave`` once it stands in the room, signed by us if need
        be; the room's other servers are told.

        Raises ``NotFound``, ``Forbidden``, ``InvalidEvent``, ``InvalidParam`` and what ``authoriser_for`` raises.
        """
        timeline, database = self.receiver.timeline, self.receiver.database
        async with database.reading() as session:
            version = await version_of_our_room(session, room_id, origin, timeline.server_name)
        event = read_event(pdu, version)
        _check_membership_event(event, origin, room_id, event_id, membership)
        authoriser = event.content.get(AUTHORISED_VIA)
        if membership == "join" and isinstance(authoriser, str) and is_user_of(authoriser, timeline.server_name):
            async with database.reading() as session:
                await authoriser_for(session, room_id, version, event.sender, timeline.server_name)
            event = countersign(event, timeline.server_name, timeline.signing_key)
        event = await _well_signed(self.receiver, event, version)
        (error,) = await self.receiver.take(origin, [event], relayed=True)
        if error is not None:
            raise Forbidden(error)
        return event


OpenHandshakes = Annotated[Handshakes, opened("handshakes")]


def is_user_of(user_id: Any, server_name: str) -> bool:
    try:
        return isinstance(user_id, str) and domain_of(check_user_id(user_id)) == server_name
    except ValueError:
        return False


async def _well_signed(receiver: Receiver, event: Event, version: RoomVersion) -> Event:
    try:
        return await check_event(receiver.fetch.key_ring, event.pdu, version)
    except BadSignature as error:
        raise InvalidParam(str(error)) from error


def _check_membership_event(event: Event, origin: str, room_id: str, event_id: str, membership: str) -> None:
    """Raises ``InvalidParam`` as listed for each of these endpoints."""
    if event.room_id != room_id:
        raise InvalidParam("The event is of another room")
    if event.event_id != event_id:
        raise InvalidParam("The event has another ID")
    if event.type != MEMBER or event.membership != membership:
        raise InvalidParam(f"The event is no {membership} event")
    if not is_user_of(event.sender, origin):
        raise InvalidParam("The event's sender is not a user of your server")
    if event.state_key != event.sender:
        raise InvalidParam("The event is about somebody else than its sender")
