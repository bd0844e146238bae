"""Replacing a room by one of another version (Client-Server API, "Room Upgrades")."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.aliases import store as aliases
from identity_server.homeserver.aliases.change import CANONICAL_ALIAS
from identity_server.homeserver.events.event import CREATE, POWER_LEVELS, Event, StateKey
from identity_server.homeserver.events.power_levels import PowerLevels, creators
from identity_server.homeserver.events.refusal import NotAllowed
from identity_server.homeserver.events.versions import RoomVersion
from identity_server.homeserver.rooms.carry_over import carry_over
from identity_server.homeserver.rooms.create import Plan, create_room
from identity_server.homeserver.rooms.presets import StateEvent
from identity_server.homeserver.rooms.rights import require_joined
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.build import Draft
from identity_server.homeserver.timeline.room import lock_room
from identity_server.homeserver.timeline.send import send_event
from identity_server.homeserver.timeline.start import draw_room_id
from identity_server.homeserver.timeline.timeline import Timeline
from identity_server.matrix.errors import Forbidden
from identity_server.runtime.tokens import Entropy

TOMBSTONE = "m.room.tombstone"
_COPIED = (
    "m.room.server_acl",
    "m.room.encryption",
    "m.room.name",
    "m.room.avatar",
    "m.room.topic",
    "m.room.guest_access",
    "m.room.history_visibility",
    "m.room.join_rules",
)
_SPACE = "m.space"
_CHILD = "m.space.child"


async def upgrade_room(
    session: AsyncSession,
    timeline: Timeline,
    user_id: str,
    room_id: str,
    version: RoomVersion,
    *,
    additional_creators: Sequence[str],
    entropy: Entropy,
    now_ms: int,
) -> str:
    """The ID of the room that replaces ``room_id``. Raises ``Forbidden`` and ``NotFound``."""
    await lock_room(session, room_id)
    await require_joined(session, room_id, user_id)
    state = await store.current_state(session, room_id)
    levels = PowerLevels(state.get(CREATE), state.get(POWER_LEVELS))
    if levels.of(user_id) < levels.needed_for(TOMBSTONE, is_state=True):
        raise Forbidden("You may not upgrade the room")
    replaced = _Replacement(session, timeline, user_id, room_id, state, now_ms)
    # From room version 12 on the new room's ID comes of its first event, which so cannot tell of the tombstone.
    if version.room_id_is_create_event_id:
        new_room_id = await replaced.create(version, additional_creators, {"room_id": room_id}, None, entropy)
        await replaced.bury(new_room_id)
    else:
        new_room_id = draw_room_id(timeline, entropy)
        predecessor = {"room_id": room_id, "event_id": await replaced.bury(new_room_id)}
        await replaced.create(version, additional_creators, predecessor, new_room_id, entropy)
    await replaced.move_names(new_room_id)
    await replaced.quieten()
    await carry_over(session, timeline.streams, user_id, room_id, new_room_id)
    return new_room_id


@dataclass(frozen=True)
class _Replacement:
    session: AsyncSession
    timeline: Timeline
    user_id: str
    room_id: str
    state: Mapping[StateKey, Event]
    now_ms: int

    async def create(
        self,
        version: RoomVersion,
        additional_creators: Sequence[str],
        predecessor: Mapping[str, Any],
        room_id: str | None,
        entropy: Entropy,
    ) -> str:
        old = self.state[CREATE].content
        creation = {name: old[name] for name in ("type", "m.federate") if name in old}
        if version.privileged_creators and additional_creators:
            creation["additional_creators"] = list(additional_creators)
        ruling = {self.user_id, *additional_creators} if version.privileged_creators else set()
        final = self._power_levels(version, ruling)
        first = self._enough_for(self.user_id, final, version)
        plan = Plan(
            version=version,
            preset="private_chat",
            creation_content=creation,
            initial_state=((*POWER_LEVELS, first), *self._copied()),
            predecessor=predecessor,
            room_id=room_id,
        )
        new_room_id = await create_room(
            self.session, self.timeline, self.user_id, plan, entropy=entropy, now_ms=self.now_ms
        )
        for user_id in self._banned():
            await self._send(new_room_id, "m.room.member", user_id, {"membership": "ban"})
        if first != final:
            await self._send(new_room_id, *POWER_LEVELS, final)
        return new_room_id

    async def bury(self, new_room_id: str) -> str:
        """The event ID of the tombstone."""
        content = {"body": "This room has been replaced", "replacement_room": new_room_id}
        return await self._send(self.room_id, TOMBSTONE, "", content)

    async def move_names(self, new_room_id: str) -> None:
        """The aliases, what the rooms say of them, and the place in the directory."""
        if await aliases.is_published(self.session, self.room_id):
            await aliases.withdraw(self.session, self.room_id)
            await aliases.publish(self.session, new_room_id, now_ms=self.now_ms)
        await aliases.move_aliases(self.session, self.room_id, new_room_id)
        canonical = self.state.get((CANONICAL_ALIAS, ""))
        if canonical is None:
            return
        kept, moved = dict(canonical.content), dict[str, Any]()
        if self._is_ours(kept.get("alias")):
            moved["alias"] = kept.pop("alias")
        others = kept.get("alt_aliases")
        if isinstance(others, list) and any(map(self._is_ours, others)):
            moved["alt_aliases"] = [alias for alias in others if self._is_ours(alias)]
            kept["alt_aliases"] = [alias for alias in others if not self._is_ours(alias)]
        if moved:
            with suppress(NotAllowed):
                await self._send(self.room_id, CANONICAL_ALIAS, "", kept)
            with suppress(NotAllowed):
                await self._send(new_room_id, CANONICAL_ALIAS, "", moved)

    async def quieten(self) -> None:
        """Nobody is to go on speaking in the old room, or to invite into it, as far as we may say so."""
        present = self.state.get(POWER_LEVELS)
        content = dict(present.content) if present else {}
        before = PowerLevels(self.state.get(CREATE), present)
        level = max(50, _integer(content.get("users_default"), 0) + 1)
        content["events_default"] = max(level, _integer(content.get("events_default"), 0))
        content["invite"] = max(level, before.invite)
        if present is None or content != present.content:
            with suppress(NotAllowed):
                await self._send(self.room_id, *POWER_LEVELS, content)

    def _copied(self) -> list[StateEvent]:
        wanted = [
            (*key, dict(event.content)) for key, event in self.state.items() if key[0] in _COPIED and key[1] == ""
        ]
        if self.state[CREATE].content.get("type") == _SPACE:
            wanted += [
                (*key, dict(event.content)) for key, event in self.state.items() if key[0] == _CHILD and event.content
            ]
        return sorted(wanted, key=lambda copied: copied[:2])

    def _banned(self) -> list[str]:
        return sorted(key for (_, key), event in self.state.items() if event.membership == "ban")

    def _power_levels(self, version: RoomVersion, ruling: set[str]) -> dict[str, Any]:
        """As in the old room, but for what the version asks for; ``ruling``: who has unlimited power by it."""
        present, create = self.state.get(POWER_LEVELS), self.state[CREATE]
        content: dict[str, Any] = dict(present.content) if present else {}
        users = content.get("users")
        levels = dict(users) if isinstance(users, Mapping) else {}
        # From one room with creators to the next they are named anew, by who upgrades it.
        if present is None or (create.version.privileged_creators and not version.privileged_creators):
            levels.update({user_id: 100 for user_id in creators(create) if user_id not in levels})
        content["users"] = {user_id: level for user_id, level in levels.items() if user_id not in ruling}
        if version.tombstone_level is not None:
            events = content.get("events")
            events = dict(events) if isinstance(events, Mapping) else {}
            events[TOMBSTONE] = max(_integer(events.get(TOMBSTONE), 0), version.tombstone_level)
            content["events"] = events
        if version.integer_power_levels:
            content = _with_integers(content)
        return content

    def _enough_for(self, user_id: str, content: Mapping[str, Any], version: RoomVersion) -> dict[str, Any]:
        """The same with as much power for ``user_id`` as it takes to set the room up."""
        if version.privileged_creators:
            return dict(content)
        events = content.get("events")
        asked = [content.get("state_default", 50), content.get("ban", 50)]
        asked += list(events.values()) if isinstance(events, Mapping) else []
        users = {**content["users"]}
        users[user_id] = max([_integer(level, 0) for level in asked] + [_integer(users.get(user_id), 0)])
        return {**content, "users": users}

    def _is_ours(self, alias: Any) -> bool:
        return isinstance(alias, str) and alias.partition(":")[2] == self.timeline.server_name

    async def _send(self, room_id: str, event_type: str, state_key: str, content: dict[str, Any]) -> str:
        draft = Draft(room_id, event_type, self.user_id, content, state_key=state_key)
        return (await send_event(self.session, self.timeline, draft, now_ms=self.now_ms)).event_id


def _integer(level: Any, default: int) -> int:
    """A level, which older rooms may write as a string."""
    try:
        return default if isinstance(level, bool) else int(level)
    except (TypeError, ValueError):
        return default


def _with_integers(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {name: _with_integers(value) for name, value in content.items()}
    return _integer(content, 0) if isinstance(content, str) else content
