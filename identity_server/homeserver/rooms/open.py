"""Creating a room and asking others in: one transaction for the room and the users of this server, then the others."""

from collections.abc import Sequence
from typing import Any

from identity_server.homeserver.rooms.create import Plan, create_room
from identity_server.homeserver.rooms.here import invite_draft
from identity_server.homeserver.rooms.membership import Members
from identity_server.homeserver.threepids.invite import ThreepidInvitation
from identity_server.homeserver.timeline.send import send_event
from identity_server.matrix.identifiers import domain_of
from identity_server.runtime.tokens import Entropy


async def open_room(
    members: Members,
    creator: str,
    plan: Plan,
    threepids: Sequence[ThreepidInvitation],
    *,
    is_direct: bool,
    entropy: Entropy,
) -> str:
    """The room ID. Raises as ``create_room``, ``Members.invite`` and ``Members.invite_threepid``.

    The room stands if an invitation fails that another server has to agree to.
    """
    about: dict[str, Any] = {"is_direct": True} if is_direct else {}
    timeline, now_ms = members.timeline, members.clock.now_ms()
    for invitation in threepids:
        _ = invitation.threepid  # it is refused before anything is made
    invited = [user_id for user_id in plan.invite if user_id != creator]
    async with members.database.transaction() as session:
        room_id = await create_room(session, timeline, creator, plan, entropy=entropy, now_ms=now_ms)
        for user_id in invited:
            if domain_of(user_id) == timeline.server_name:
                draft = await invite_draft(session, timeline, room_id, creator, user_id, about)
                await send_event(session, timeline, draft, now_ms=now_ms)
    for user_id in invited:
        if domain_of(user_id) != timeline.server_name:
            await members.invite(creator, room_id, user_id, about)
    for invitation in threepids:
        await members.invite_threepid(creator, room_id, invitation, **about)
    return room_id
