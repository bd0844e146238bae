"""The rooms of a space, and of the spaces in it (Client-Server API, "Spaces"; Server-Server API, GET /hierarchy)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.event import Event
from identity_server.homeserver.federation.calls import FederationCalls, federation_path
from identity_server.homeserver.rooms.summaries import Summary, summaries
from identity_server.homeserver.timeline import store
from identity_server.matrix.errors import Forbidden, InvalidParam
from identity_server.matrix.http import Unreachable
from identity_server.matrix.json_api import Refused
from identity_server.runtime.database import Database
from identity_server.runtime.dependencies import opened

_CHILD = "m.space.child"
_SPACE = "m.space"
_USUAL = 50
_MOST = 100
_MOST_DEPTH = 20
_MOST_ROOMS = 1000
_MOST_SERVERS = 3
_TIMEOUT_MS = 10_000
_OPEN = ("public", "knock", "knock_restricted")
_LONGEST_ORDER = 50


@dataclass(frozen=True)
class Walk:
    """What is asked for; ``skip``: how many rooms of the tree have been told already."""

    suggested_only: bool = False
    max_depth: int | None = None
    limit: int | None = None
    skip: int = 0

    @classmethod
    def read(cls, token: str | None, suggested_only: bool, max_depth: int | None, limit: int | None) -> "Walk":
        """``token``: of an answer to the same question. Raises ``InvalidParam``."""
        asked = f"{int(suggested_only)}_{'' if max_depth is None else max_depth}"
        if not token:
            return cls(suggested_only, max_depth, limit)
        skip, _, before = token.partition("_")
        if not skip.isdecimal() or len(skip) > 9:
            raise InvalidParam("from is no token of this server")
        if before != asked:
            raise InvalidParam("suggested_only and max_depth cannot change on paginated requests")
        return cls(suggested_only, max_depth, limit, int(skip))

    def token(self, skip: int) -> str:
        return f"{skip}_{int(self.suggested_only)}_{'' if self.max_depth is None else self.max_depth}"


@dataclass(frozen=True)
class Spaces:
    database: Database
    calls: FederationCalls

    async def hierarchy(self, room_id: str, user_id: str, walk: Walk) -> dict[str, Any]:
        """A page of the tree, depth first. Raises ``Forbidden`` if the user may not see the room itself."""
        limit = max(1, min(walk.limit or _USUAL, _MOST))
        max_depth = _MOST_DEPTH if walk.max_depth is None else min(walk.max_depth, _MOST_DEPTH)
        remote: dict[str, Summary] = {}
        pending: list[tuple[str, tuple[str, ...], int]] = [(room_id, (), 0)]
        seen: set[str] = set()
        rooms: list[Summary] = []
        while pending and len(rooms) <= walk.skip + limit and len(seen) < _MOST_ROOMS:
            at, via, depth = pending.pop()
            if at in seen:
                continue
            seen.add(at)
            room = await self._room(at, via, user_id, remote, walk.suggested_only)
            if room is None:
                if at == room_id:
                    raise Forbidden("You are not allowed to view this room.")
                continue
            rooms.append(room)
            if depth < max_depth:
                pending += [(*_child(state), depth + 1) for state in reversed(room["children_state"])]
        answer: dict[str, Any] = {"rooms": rooms[walk.skip : walk.skip + limit]}
        if len(rooms) > walk.skip + limit:
            answer["next_batch"] = walk.token(walk.skip + limit)
        return answer

    async def summary(self, room_id: str, via: tuple[str, ...], user_id: str) -> Summary | None:
        """Of a single room, if the user may see it."""
        room = await self._room(room_id, via, user_id, {}, False)
        if room is not None:
            room.pop("children_state")
        return room

    async def _room(
        self, room_id: str, via: tuple[str, ...], user_id: str, remote: dict[str, Summary], suggested_only: bool
    ) -> Summary | None:
        async with self.database.reading() as session:
            if await store.is_server_in_room(session, room_id, self.calls.keys.server_name):
                room = await described(session, room_id, suggested_only=suggested_only)
                return room if room and await self._may_see(session, room, user_id) else None
        if room_id not in remote:
            remote.update(await self._ask(room_id, via, suggested_only))
        told = remote.get(room_id)
        if told is None:
            return None
        async with self.database.reading() as session:
            return dict(told) if await self._may_see(session, told, user_id) else None

    async def _may_see(self, session: AsyncSession, room: Summary, user_id: str) -> bool:
        membership = await store.membership(session, room["room_id"], user_id)
        if membership in ("join", "invite"):
            return True
        if membership == "ban":
            return bool(room.get("world_readable"))
        if room.get("world_readable") is True or room.get("join_rule", "public") in _OPEN:
            return True
        for allowed in room.get("allowed_room_ids") or ():
            if await store.membership(session, allowed, user_id) == store.JOIN:
                return True
        return False

    async def _ask(self, room_id: str, via: tuple[str, ...], suggested_only: bool) -> dict[str, Summary]:
        """What the first of the servers that answers tells of the room and its children, by room ID."""
        query = {"suggested_only": "true" if suggested_only else "false"}
        path = federation_path("hierarchy", room_id, query=query)
        for server in via[:_MOST_SERVERS]:
            try:
                answer = await self.calls.get(server, path, timeout_ms=_TIMEOUT_MS)
            except (Unreachable, Refused):
                continue
            listed = answer.get("children")
            told = [answer.get("room"), *(listed if isinstance(listed, list) else ())]
            # Of the children it is not told what is in them: they are asked about themselves if they are spaces.
            rooms = {room["room_id"]: room for room in map(_sound, told) if room is not None}
            return {key: room for key, room in rooms.items() if key == room_id or room.get("room_type") != _SPACE}
        return {}


OpenSpaces = Annotated[Spaces, opened("spaces")]


async def described(session: AsyncSession, room_id: str, *, suggested_only: bool = False) -> Summary | None:
    """The summary of a room of ours with ``children_state``."""
    room = (await summaries(session, [room_id])).get(room_id)
    if room is None:
        return None
    room["children_state"] = []
    if room.get("room_type") == _SPACE:
        children = (await store.current_state(session, room_id, [_CHILD])).values()
        room["children_state"] = [
            {
                "type": event.type,
                "state_key": event.state_key,
                "sender": event.sender,
                "content": event.content,
                "origin_server_ts": event.origin_server_ts,
            }
            for event in sorted(children, key=_order)
            if _servers(event.content) and (not suggested_only or event.content.get("suggested") is True)
        ]
    return room


def _order(event: Event) -> tuple[bool, str, int, str]:
    """ "Ordering of children within a space": by ``order``, those without one last, then by age."""
    order = event.content.get("order")
    if not isinstance(order, str) or len(order) > _LONGEST_ORDER or not all(" " <= letter <= "~" for letter in order):
        return (True, "", event.origin_server_ts, event.state_key or "")
    return (False, order, event.origin_server_ts, event.state_key or "")


def _servers(content: Mapping[str, Any]) -> tuple[str, ...]:
    via = content.get("via")
    return tuple(server for server in via if isinstance(server, str)) if isinstance(via, list) else ()


def _child(state: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    return str(state["state_key"]), _servers(state["content"])


def _sound(room: Any) -> Summary | None:
    """What another server tells of a room, as far as it is of the right form."""
    if not isinstance(room, dict) or not isinstance(room.get("room_id"), str) or "\0" in room["room_id"]:
        return None
    listed = room.get("children_state")
    children = [
        state
        for state in (listed if isinstance(listed, list) else ())
        if isinstance(state, dict)
        and state.get("type") == _CHILD
        and isinstance(state.get("state_key"), str)
        and "\0" not in state["state_key"]
        and isinstance(state.get("content"), dict)
    ]
    allowed = room.get("allowed_room_ids")
    joined = room.get("num_joined_members")
    return {
        **room,
        "children_state": children,
        "allowed_room_ids": [
            one for one in (allowed if isinstance(allowed, list) else ()) if isinstance(one, str) and "\0" not in one
        ],
        "num_joined_members": joined if isinstance(joined, int) else 0,
        "world_readable": room.get("world_readable") is True,
        "guest_can_join": room.get("guest_can_join") is True,
    }
