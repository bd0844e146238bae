"""Addresses that are invited, and the users who turn out to own them (Client-Server API, "Third-party invites")."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.event import CREATE, POWER_LEVELS, Event
from identity_server.homeserver.events.power_levels import PowerLevels
from identity_server.homeserver.rooms.rights import require_joined
from identity_server.homeserver.threepids.invite import THIRD_PARTY_INVITE
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.build import Draft
from identity_server.homeserver.timeline.members import MEMBER
from identity_server.homeserver.timeline.send import send_event
from identity_server.homeserver.timeline.timeline import Timeline
from identity_server.matrix.errors import Forbidden


async def check_may_invite(session: AsyncSession, room_id: str, user_id: str) -> None:
    """Raises ``Forbidden``: before an identity server sends anybody an invitation that the room would not allow."""
    await require_joined(session, room_id, user_id)
    state = await store.current_events(session, room_id, (CREATE, POWER_LEVELS))
    levels = PowerLevels(state.get(CREATE), state.get(POWER_LEVELS))
    if levels.of(user_id) < levels.invite:
        raise Forbidden("You may not invite to the room")


async def signed_invitation(
    session: AsyncSession, timeline: Timeline, room_id: str, user_id: str, signed: Mapping[str, Any]
) -> Event:
    """The ``m.room.third_party_invite`` of ours that ``signed`` refers to. Raises ``Forbidden`` if there is none."""
    token = signed.get("token")
    if signed.get("mxid") != user_id or not isinstance(token, str) or "\0" in token:
        raise Forbidden("The invitation is for somebody else")
    invitation = await store.state_event(session, room_id, THIRD_PARTY_INVITE, token)
    if invitation is None or invitation.sender_server != timeline.server_name:
        raise Forbidden("The room knows of no such invitation")
    return invitation


async def accept_signed(
    session: AsyncSession, timeline: Timeline, room_id: str, user_id: str, signed: Mapping[str, Any], *, now_ms: int
) -> None:
    """Make the invitation that ``third_party_signed`` of a join proves, in its inviter's name, if it is needed.

    ``signed``: ``mxid``, ``token``, ``signatures``, and whatever else is signed with them. Raises ``Forbidden`` if the
    room knows of no such invitation.
    """
    if await store.membership(session, room_id, user_id) in ("join", "invite"):
        return
    invitation = await signed_invitation(session, timeline, room_id, user_id, signed)
    name = invitation.content.get("display_name")
    content = {
        "membership": "invite",
        "third_party_invite": {"display_name": name if isinstance(name, str) else "", "signed": dict(signed)},
    }
    draft = Draft(room_id, MEMBER, invitation.sender, content, state_key=user_id)
    await send_event(session, timeline, draft, now_ms=now_ms)
