"""Whose keys a user begins and ceases to see, because rooms begin and cease to be shared."""

from collections.abc import Collection

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.timeline import sharing
from identity_server.homeserver.timeline.models import Membership

_GONE = ("leave", "ban")
# Clients encrypt for those who are invited, too.
_HERE = ("join", "invite")


async def came_and_went(
    session: AsyncSession, user_id: str, since: int, upto: int, *, joined_rooms: Collection[str]
) -> tuple[set[str], set[str]]:
    """Who came into a room of the user's in ``since`` < position <= ``upto``, or into whose room the user came; and
    with whom the user shared a room at ``since`` and no longer does.

    Rooms count whether they are encrypted or not.
    """
    own_moves = await sharing.moves_of(session, user_id, since, upto)
    entered = {move.room_id for move in own_moves if _has_joined(move, since)}
    left_rooms = {
        move.room_id
        for move in own_moves
        if move.membership in _GONE and await sharing.was_joined(session, move.room_id, user_id, since)
    }
    moves = await sharing.moves_in(session, {*joined_rooms, *left_rooms}, since, upto)

    came = await sharing.joined_users_of(session, entered & set(joined_rooms))
    came |= {move.user_id for move in moves if move.room_id not in left_rooms and _has_come(move, since)}
    gone = await sharing.joined_users_of(session, left_rooms)
    gone |= {
        move.user_id
        for move in moves
        if move.membership in _GONE and await sharing.was_joined(session, move.room_id, move.user_id, since)
    }
    gone -= {user_id}
    still_there = await sharing.joined_to_any(session, gone, joined_rooms)
    return came - {user_id}, gone - still_there


def _has_joined(move: Membership, since: int) -> bool:
    return move.joined_position is not None and move.joined_position > since


def _has_come(move: Membership, since: int) -> bool:
    return move.membership in _HERE and (move.membership != "join" or _has_joined(move, since))
