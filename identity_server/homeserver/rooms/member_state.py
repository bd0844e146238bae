"""Memberships that clients write as state (Client-Server API, PUT /state/m.room.member): other doors to the same."""

from typing import Any

from identity_server.homeserver.rooms import here
from identity_server.homeserver.rooms.checks import MEMBERSHIPS
from identity_server.homeserver.rooms.membership import Members
from identity_server.homeserver.timeline import store
from identity_server.matrix.errors import BadJson, Forbidden, NotFound


async def put_membership(members: Members, sender: str, room_id: str, user_id: str, content: dict[str, Any]) -> str:
    """The event ID of the membership, with all of ``content``. Raises as the endpoint of the same effect does."""
    membership = content.get("membership")
    if membership not in MEMBERSHIPS:
        raise BadJson("membership is one of " + ", ".join(MEMBERSHIPS))
    here.check_target(user_id)
    async with members.database.reading() as session:
        before = await store.membership(session, room_id, user_id)
    if membership in ("join", "knock") and sender != user_id:
        raise Forbidden("Users join and knock only by themselves")
    match membership:
        case "join":
            await members.join(user_id, room_id, content=content)
        case "knock":
            await members.knock(user_id, room_id, content=content)
        case "invite":
            await members.invite(sender, room_id, user_id, content)
        case "leave" if sender == user_id:
            await members.leave(user_id, room_id, content)
        case _:
            act = here.ban if membership == "ban" else here.unban if before == "ban" else here.kick
            async with members.database.transaction() as session:
                await act(session, members.timeline, room_id, sender, user_id, content, now_ms=members.clock.now_ms())
    async with members.database.reading() as session:
        row = await store.membership_row(session, room_id, user_id)
    if row is None:
        raise NotFound("Unknown room")
    return row.event_id
