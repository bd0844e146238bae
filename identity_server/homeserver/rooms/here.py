"""Who comes into a room, leaves it, is let in or kept out, where the room is ours to write to."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.account_data.invite_permission import check_invitable
from identity_server.homeserver.events.versions import room_version
from identity_server.homeserver.federation.restricted import authoriser_for
from identity_server.homeserver.profiles import store as profiles
from identity_server.homeserver.rooms.rights import require_joined
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.build import Draft
from identity_server.homeserver.timeline.members import MEMBER
from identity_server.homeserver.timeline.send import send_event
from identity_server.homeserver.timeline.stored import StoredEvent
from identity_server.homeserver.timeline.timeline import Timeline
from identity_server.matrix.errors import Forbidden, InvalidParam, MatrixError
from identity_server.matrix.identifiers import check_user_id, domain_of

AUTHORISED_VIA = "join_authorised_via_users_server"
# A profile may be larger than an event; of it no more belongs here.
_PROFILE = ("displayname", "avatar_url")


class BadState(MatrixError):
    """What is asked for does not go together with how the user stands with the room."""

    status = 403
    errcode = "M_BAD_STATE"


async def is_here(session: AsyncSession, timeline: Timeline, room_id: str) -> bool:
    """Whether we may write to the room: we are in it, or were the last to leave it."""
    if await store.is_server_in_room(session, room_id, timeline.server_name):
        return True
    room = await store.find_room(session, room_id)
    return room is not None and room.state_group is not None and not await store.servers_in_room(session, room_id)


async def with_profile(
    session: AsyncSession, timeline: Timeline, user_id: str, content: Mapping[str, Any]
) -> dict[str, Any]:
    """``content`` of a membership with the name and the avatar of a user of ours, where it does not say any."""
    if _server_of(user_id) != timeline.server_name:
        return dict(content)
    profile = await profiles.profile_of(session, user_id)
    return {**{name: profile[name] for name in _PROFILE if profile.get(name) is not None}, **content}


async def join_here(
    session: AsyncSession,
    timeline: Timeline,
    room_id: str,
    user_id: str,
    content: Mapping[str, Any],
    *,
    now_ms: int,
) -> StoredEvent:
    """Raises ``NotAllowed``, and as ``authoriser_for`` where the room lets in the members of others."""
    room = await store.find_room(session, room_id)
    if room is None:
        raise Forbidden("You are not in the room")
    joining = {**await with_profile(session, timeline, user_id, content), "membership": "join"}
    joining.pop(AUTHORISED_VIA, None)
    authoriser = await authoriser_for(session, room_id, room_version(room.version), user_id, timeline.server_name)
    if authoriser is not None:
        joining[AUTHORISED_VIA] = authoriser
    return await _send(session, timeline, room_id, user_id, user_id, joining, now_ms=now_ms)


async def knock_here(
    session: AsyncSession, timeline: Timeline, room_id: str, user_id: str, content: Mapping[str, Any], *, now_ms: int
) -> StoredEvent:
    knocking = {**await with_profile(session, timeline, user_id, content), "membership": "knock"}
    return await _send(session, timeline, room_id, user_id, user_id, knocking, now_ms=now_ms)


async def invite_draft(
    session: AsyncSession, timeline: Timeline, room_id: str, sender: str, user_id: str, content: Mapping[str, Any]
) -> Draft:
    """The invitation of ``user_id``. Raises ``InvalidParam``, ``InviteBlocked``, and ``BadState`` for who is banned."""
    check_target(user_id)
    if await store.membership(session, room_id, user_id) == "ban":
        raise BadState("The user is banned from the room")
    if _server_of(user_id) == timeline.server_name:
        await check_invitable(session, user_id)
    inviting = {**await with_profile(session, timeline, user_id, content), "membership": "invite"}
    return Draft(room_id, MEMBER, sender, inviting, state_key=user_id)


async def leave_here(
    session: AsyncSession, timeline: Timeline, room_id: str, user_id: str, content: Mapping[str, Any], *, now_ms: int
) -> StoredEvent:
    """Also turns down an invitation, and takes back a knock."""
    leaving = {**content, "membership": "leave"}
    return await _send(session, timeline, room_id, user_id, user_id, leaving, now_ms=now_ms)


async def kick(
    session: AsyncSession,
    timeline: Timeline,
    room_id: str,
    sender: str,
    user_id: str,
    content: Mapping[str, Any],
    *,
    now_ms: int,
) -> StoredEvent:
    check_target(user_id)
    await require_joined(session, room_id, sender)
    if await store.membership(session, room_id, user_id) not in ("join", "invite", "knock"):
        raise Forbidden("The user is not in the room")
    kicked = {**content, "membership": "leave"}
    return await _send(session, timeline, room_id, sender, user_id, kicked, now_ms=now_ms)


async def ban(
    session: AsyncSession,
    timeline: Timeline,
    room_id: str,
    sender: str,
    user_id: str,
    content: Mapping[str, Any],
    *,
    now_ms: int,
) -> StoredEvent:
    check_target(user_id)
    await require_joined(session, room_id, sender)
    banned = {**content, "membership": "ban"}
    return await _send(session, timeline, room_id, sender, user_id, banned, now_ms=now_ms)


async def unban(
    session: AsyncSession,
    timeline: Timeline,
    room_id: str,
    sender: str,
    user_id: str,
    content: Mapping[str, Any],
    *,
    now_ms: int,
) -> StoredEvent:
    """Raises ``BadState`` unless the user is banned."""
    check_target(user_id)
    await require_joined(session, room_id, sender)
    if await store.membership(session, room_id, user_id) != "ban":
        raise BadState("The user is not banned from the room")
    unbanned = {**content, "membership": "leave"}
    return await _send(session, timeline, room_id, sender, user_id, unbanned, now_ms=now_ms)


def check_target(user_id: str) -> None:
    """Raises ``InvalidParam``."""
    try:
        check_user_id(user_id)
    except ValueError as error:
        raise InvalidParam("user_id is no user ID") from error


async def _send(
    session: AsyncSession,
    timeline: Timeline,
    room_id: str,
    sender: str,
    user_id: str,
    content: dict[str, Any],
    *,
    now_ms: int,
) -> StoredEvent:
    draft = Draft(room_id, MEMBER, sender, content, state_key=user_id)
    return await send_event(session, timeline, draft, now_ms=now_ms)


def _server_of(user_id: str) -> str | None:
    try:
        return domain_of(user_id)
    except ValueError:
        return None
