"""In which rooms the user is, was, or might be, and what of that is new."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.sync import store
from identity_server.homeserver.sync.news import Newest
from identity_server.homeserver.sync.request import SyncRequest
from identity_server.homeserver.sync.store import Standing

_MOST_USERS = 2_000
_GONE = frozenset({"leave", "ban"})
_NEVER = -1


@dataclass(frozen=True)
class Rooms:
    """``joined``: since when, by room ID. ``entered``: those of them that are new to the client.

    ``left``, ``invited``, ``knocked``: only what is new to the client.
    """

    joined: Mapping[str, int]
    entered: frozenset[str] = frozenset()
    left: tuple[Standing, ...] = ()
    invited: tuple[Standing, ...] = ()
    knocked: tuple[Standing, ...] = ()


@dataclass
class JoinedRooms:
    """The rooms of the users who sync, kept until a membership of theirs changes."""

    _kept: OrderedDict[str, tuple[int, Mapping[str, int]]] = field(default_factory=OrderedDict)

    async def of(self, session: AsyncSession, user_id: str, newest: int) -> Mapping[str, int]:
        """``newest``: the newest position of the user's memberships."""
        position, rooms = self._kept.get(user_id, (_NEVER, {}))
        if position != newest:
            rooms = await store.joined_rooms(session, user_id)
            self._kept[user_id] = newest, rooms
            if len(self._kept) > _MOST_USERS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(user_id)
        return rooms


async def standing_of(
    session: AsyncSession, kept: JoinedRooms, request: SyncRequest, newest: Newest, ignored: frozenset[str]
) -> Rooms:
    wanted = request.wanted.rooms
    joined = await kept.of(session, request.user_id, newest.memberships)
    if wanted.rooms is not None or wanted.not_rooms:
        joined = {room_id: position for room_id, position in joined.items() if wanted.admits_room(room_id)}
    if request.since is None:
        kinds = ("invite", "knock", *(_GONE if request.wanted.include_leave else ()))
        changed = await store.standings(session, request.user_id, kinds=kinds)
        entered = frozenset(joined)
    elif newest.memberships <= request.told:
        return Rooms(joined)
    else:
        changed = await store.standings(session, request.user_id, since=request.told)
        entered = frozenset(room_id for room_id, position in joined.items() if position > request.told)
    changed = [row for row in changed if wanted.admits_room(row.room_id)]
    return Rooms(
        joined,
        entered,
        left=tuple(row for row in changed if row.membership in _GONE and (request.since or not row.forgotten)),
        # "Servers must not send room invites from ignored users to clients."
        invited=tuple(row for row in changed if row.membership == "invite" and row.sender not in ignored),
        knocked=tuple(row for row in changed if row.membership == "knock"),
    )
