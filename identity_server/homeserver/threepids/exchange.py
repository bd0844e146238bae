"""Inviting whom another server says an invited address belongs to (Server-Server API, "Third-party invites").

What proves it is the identity server's signature, against the keys that the room was told when the address was
invited.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter

from identity_server.homeserver.federation.acl import check_acl
from identity_server.homeserver.federation.joins import OpenRemoteRooms, RemoteRooms
from identity_server.homeserver.federation.requester import Origin
from identity_server.homeserver.threepids.invite import THIRD_PARTY_INVITE
from identity_server.homeserver.threepids.key_validity import check_keys
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.build import Draft
from identity_server.homeserver.timeline.send import send_event
from identity_server.matrix.errors import BadGateway, Forbidden, InvalidParam, NotFound
from identity_server.matrix.http import Http, Unreachable
from identity_server.matrix.identifiers import RoomID, check_user_id, domain_of
from identity_server.runtime.dependencies import opened
from identity_server.runtime.requests import JsonRoute

router = APIRouter(prefix="/_matrix/federation/v1", tags=["threepids"], route_class=JsonRoute)

_MEMBER = "m.room.member"


@router.put("/exchange_third_party_invite/{room_id}")
async def exchange_third_party_invite(
    origin: Origin,
    room_id: RoomID,
    body: dict[str, Any],
    remote_rooms: OpenRemoteRooms,
    http: Annotated[Http, opened("http")],
) -> dict[str, Any]:
    await exchange(remote_rooms, http, origin, room_id, body)
    return {}


async def exchange(remote: RemoteRooms, http: Http, origin: str, room_id: str, partial: Mapping[str, Any]) -> None:
    """Make the invitation of the partial ``m.room.member`` event that ``origin`` sends, in the inviter's name.

    Raises ``NotFound``, ``InvalidParam`` and ``Forbidden``, and what the invited user's server says.
    """
    receiver = remote.receiver
    timeline, database = receiver.timeline, receiver.database
    user_id, named, signed = _read(partial, room_id)
    async with database.reading() as session:
        if not await store.is_server_in_room(session, room_id, timeline.server_name):
            raise NotFound("Unknown room")
        await check_acl(session, room_id, origin)
        invitation = await store.state_event(session, room_id, THIRD_PARTY_INVITE, signed["token"])
        membership = await store.membership(session, room_id, user_id)
    if invitation is None:
        raise Forbidden("The room knows of no such invitation")
    if membership in ("join", "invite"):
        return
    try:
        await check_keys(http, invitation.content, signed)
    except Unreachable as error:
        raise BadGateway("The identity server cannot be reached") from error
    shown = invitation.content.get("display_name", named)
    content = {"membership": "invite", "third_party_invite": {"display_name": shown, "signed": dict(signed)}}
    draft = Draft(room_id, _MEMBER, invitation.sender, content, state_key=user_id)
    if domain_of(user_id) != timeline.server_name:
        await remote.invite(draft)
        return
    async with database.transaction() as session:
        await send_event(session, timeline, draft, now_ms=remote.clock.now_ms())


def _read(partial: Mapping[str, Any], room_id: str) -> tuple[str, str, Mapping[str, Any]]:
    """Who is invited, the name that is displayed, and the proof. Raises ``InvalidParam``."""
    content = partial.get("content")
    invite = content.get("third_party_invite") if isinstance(content, dict) else None
    signed = invite.get("signed") if isinstance(invite, dict) else None
    if partial.get("type") != _MEMBER or partial.get("room_id") != room_id:
        raise InvalidParam("This is no membership event of the room")
    if not isinstance(content, dict) or not isinstance(invite, dict) or not isinstance(signed, dict):
        raise InvalidParam("This is no invitation of a third party to the room")
    token, user_id = signed.get("token"), partial.get("state_key")
    if not isinstance(token, str) or "\0" in token or not isinstance(signed.get("signatures"), dict):
        raise InvalidParam("The invitation is not signed")
    try:
        user_id = check_user_id(str(user_id))
    except ValueError as error:
        raise InvalidParam("The invited user has no user ID") from error
    if content.get("membership") != "invite" or signed.get("mxid") != user_id:
        raise InvalidParam("The invitation is for somebody else")
    named = invite.get("display_name")
    return user_id, named if isinstance(named, str) else "", signed
