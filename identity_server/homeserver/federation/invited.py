"""Invitations of our users to rooms of others (Server-Server API, "Inviting to a room")."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from identity_server.homeserver.account_data.invite_permission import check_invitable
from identity_server.homeserver.accounts import store as accounts
from identity_server.homeserver.events.event import CREATE, Event
from identity_server.homeserver.events.format import InvalidEvent
from identity_server.homeserver.events.hashing import countersign
from identity_server.homeserver.events.reading import read_event
from identity_server.homeserver.events.versions import VERSIONS, RoomVersion
from identity_server.homeserver.federation.acl import check_acl
from identity_server.homeserver.federation.checks import BadSignature, check_event
from identity_server.homeserver.federation.handshakes import MEMBER, is_user_of
from identity_server.homeserver.federation.place import authorise_by_group
from identity_server.homeserver.federation.receive import Receiver
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.outside import put_outside_membership
from identity_server.homeserver.timeline.room import lock_room
from identity_server.homeserver.timeline.stripped import stripped_event
from identity_server.matrix.errors import Forbidden, IncompatibleRoomVersion, InvalidParam, MissingParam
from identity_server.runtime.dependencies import opened

_MOST_STATE = 100
_STRIPPED = ("type", "state_key", "sender", "content")


@dataclass(frozen=True)
class Invitations:
    receiver: Receiver

    async def accept(
        self, origin: str, room_id: str, event_id: str, pdu: Any, version_name: Any, room_state: Any
    ) -> Event:
        """The invitation, signed by us too; our user is told of it.

        ``room_state``: what it tells of the room, as events or stripped of all but what clients need. Raises
        ``IncompatibleRoomVersion``, ``InvalidEvent``, ``InvalidParam`` and ``Forbidden``.
        """
        version = VERSIONS.get(version_name) if isinstance(version_name, str) else None
        if version is None:
            raise IncompatibleRoomVersion("This server does not know the room's version", room_version=version_name)
        event = read_event(pdu, version)
        self._check(event, origin, room_id, event_id)
        event = await self._well_signed(event, version)
        shown = await self._shown(room_state, room_id, version)
        timeline = self.receiver.timeline
        event = countersign(event, timeline.server_name, timeline.signing_key)
        async with self.receiver.database.transaction() as session:
            invited = str(event.state_key)
            if not await accounts.is_active(session, invited):
                if await accounts.is_taken(session, invited):
                    raise Forbidden("There is no such user on this server")
                return event  # as if there were: who is registered here is not to be found out by inviting
            await check_invitable(session, invited)
            if await store.is_server_in_room(session, room_id, timeline.server_name):
                # It comes to us with the room's other events, too: then the user is told.
                await check_acl(session, room_id, origin)
                room = await lock_room(session, room_id)
                await authorise_by_group(session, timeline, event, room.state_group)
            else:
                await put_outside_membership(session, timeline, event, stripped_state=[*shown, stripped_event(event)])
        return event

    def _check(self, event: Event, origin: str, room_id: str, event_id: str) -> None:
        if event.room_id != room_id:
            raise InvalidParam("The event is of another room")
        if event.event_id != event_id:
            raise InvalidParam("The event has another ID")
        if event.type != MEMBER or event.membership != "invite":
            raise InvalidParam("The event is no invite event")
        if not is_user_of(event.sender, origin):
            raise InvalidParam("The event's sender is not a user of your server")
        if not is_user_of(event.state_key, self.receiver.timeline.server_name):
            raise InvalidParam("The invited user is not a user of this server")

    async def _well_signed(self, event: Event, version: RoomVersion) -> Event:
        try:
            return await check_event(self.receiver.fetch.key_ring, event.pdu, version)
        except BadSignature as error:
            raise InvalidParam(str(error)) from error

    async def _shown(self, room_state: Any, room_id: str, version: RoomVersion) -> list[dict[str, Any]]:
        """What clients are shown of the room, the worst left out.

        Raises ``MissingParam`` from room version 12 on unless ``m.room.create`` is there, which names the room.
        """
        listed: Sequence[Any] = room_state[:_MOST_STATE] if isinstance(room_state, list) else []
        shown: list[dict[str, Any]] = []
        has_create = False
        for told in listed:
            try:
                event = await check_event(self.receiver.fetch.key_ring, told, version)
            except (InvalidEvent, BadSignature):
                if is_stripped(told):
                    shown.append({name: told[name] for name in _STRIPPED})
                continue
            if event.is_state and event.room_id == room_id:
                has_create = has_create or event.key == CREATE
                shown.append(stripped_event(event))
        if version.room_id_is_create_event_id and not has_create:
            raise MissingParam("m.room.create is not among invite_room_state")
        return shown


OpenInvitations = Annotated[Invitations, opened("invitations")]


def is_stripped(told: Any) -> bool:
    """Whether it is a stripped state event, as older servers send."""
    return (
        isinstance(told, dict)
        and all(isinstance(told.get(name), str) and "\0" not in told[name] for name in ("type", "state_key", "sender"))
        and isinstance(told.get("content"), dict)
    )
