"""Joining rooms that let in the members of others (Server-Server API, "Restricted rooms")."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.event import CREATE, JOIN_RULES, POWER_LEVELS, Event, StateKey, member
from identity_server.homeserver.events.power_levels import PowerLevels
from identity_server.homeserver.events.versions import RoomVersion
from identity_server.homeserver.timeline import store
from identity_server.matrix.errors import Forbidden, UnableToAuthoriseJoin, UnableToGrantJoin


async def authoriser_for(
    session: AsyncSession, room_id: str, version: RoomVersion, user_id: str, server_name: str
) -> str | None:
    """Who of our users lets the user in, as ``join_authorised_via_users_server`` says; None if nobody needs to.

    Raises ``Forbidden`` if the user meets none of the room's conditions, ``UnableToAuthoriseJoin`` if we cannot tell,
    ``UnableToGrantJoin`` if nobody of ours may invite.
    """
    state = await store.current_events(session, room_id, [CREATE, JOIN_RULES, POWER_LEVELS, member(user_id)])
    rules = state.get(JOIN_RULES)
    if not _is_restricted(rules, version) or _stands_inside(state.get(member(user_id))):
        return None
    assert rules is not None  # it is restricted
    if not await _meets_a_condition(session, rules.content.get("allow"), user_id, server_name):
        raise Forbidden("You belong to none of the rooms whose members may join")
    authoriser = await _inviter_of_ours(session, room_id, state, server_name)
    if authoriser is None:
        raise UnableToGrantJoin("Nobody on this server may invite you")
    return authoriser


def _is_restricted(rules: Event | None, version: RoomVersion) -> bool:
    rule = rules.content.get("join_rule") if rules else None
    return (rule == "restricted" and version.restricted_joins) or (
        rule == "knock_restricted" and version.knock_restricted_joins
    )


def _stands_inside(membership: Event | None) -> bool:
    return membership is not None and membership.membership in ("join", "invite")


async def _meets_a_condition(session: AsyncSession, conditions: Any, user_id: str, server_name: str) -> bool:
    """Raises ``UnableToAuthoriseJoin`` if it is no, but only as far as we know."""
    unknown = False
    for condition in conditions if isinstance(conditions, list) else ():
        room_id = condition.get("room_id") if _is_membership(condition) else None
        if not isinstance(room_id, str) or "\0" in room_id:
            continue
        if not await store.is_server_in_room(session, room_id, server_name):
            unknown = True  # of a room that we left we only know who was there then
        elif await store.membership(session, room_id, user_id) == "join":
            return True
    if unknown:
        raise UnableToAuthoriseJoin("We do not know who is in the rooms whose members may join")
    return False


def _is_membership(condition: Any) -> bool:
    return isinstance(condition, dict) and condition.get("type") == "m.room_membership"


async def _inviter_of_ours(
    session: AsyncSession, room_id: str, state: Mapping[StateKey, Event], server_name: str
) -> str | None:
    levels = PowerLevels(state[CREATE], state.get(POWER_LEVELS))
    ours = await store.local_joined_users(session, room_id, server_name)
    strongest = max(sorted(ours), key=levels.of, default=None)
    return strongest if strongest is not None and levels.of(strongest) >= levels.invite else None
