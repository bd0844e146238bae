"""Creating a room (Client-Server API, POST /createRoom), up to where others come in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.aliases import store as aliases
from identity_server.homeserver.aliases.change import CANONICAL_ALIAS
from identity_server.homeserver.aliases.resolve import check_alias
from identity_server.homeserver.events.format import is_user_id
from identity_server.homeserver.events.refusal import NotAllowed
from identity_server.homeserver.events.versions import RoomVersion
from identity_server.homeserver.rooms.checks import check_content, check_power_levels
from identity_server.homeserver.rooms.here import join_here
from identity_server.homeserver.rooms.presets import TRUSTED, StateEvent, initial_power_levels, preset_events
from identity_server.homeserver.timeline.build import Draft
from identity_server.homeserver.timeline.send import send_event
from identity_server.homeserver.timeline.start import start_room
from identity_server.homeserver.timeline.timeline import Timeline
from identity_server.matrix.errors import BadJson, InvalidParam, MatrixError
from identity_server.runtime.tokens import Entropy

_OURS = ("m.room.create", "m.room.member", "m.room.power_levels")


class RoomInUse(MatrixError):
    errcode = "M_ROOM_IN_USE"


class InvalidRoomState(MatrixError):
    errcode = "M_INVALID_ROOM_STATE"


@dataclass(frozen=True)
class Plan:
    """What somebody wants of a new room; ``invite``: user IDs. See the fields of POST /createRoom."""

    version: RoomVersion
    preset: str
    published: bool = False
    alias: str | None = None
    name: str | None = None
    topic: str | None = None
    invite: tuple[str, ...] = ()
    creation_content: Mapping[str, Any] = field(default_factory=dict)
    initial_state: tuple[StateEvent, ...] = ()
    predecessor: Mapping[str, Any] | None = None
    room_id: str | None = None
    """If it had to be known before; see ``start_room``."""
    power_levels: Mapping[str, Any] = field(default_factory=dict)


async def create_room(
    session: AsyncSession, timeline: Timeline, creator: str, plan: Plan, *, entropy: Entropy, now_ms: int
) -> str:
    """The room ID of the new room, with everything in it but the invitations.

    Raises ``RoomInUse``, ``InvalidRoomState``, ``BadJson`` and ``InvalidParam``.
    """
    if plan.alias is not None:
        check_alias(plan.alias)
        if await aliases.find_alias(session, plan.alias) is not None:
            raise RoomInUse("Room alias already taken")
    check_power_levels(plan.power_levels, plan.version)
    created = await start_room(
        session,
        timeline,
        creator,
        _create_content(creator, plan),
        plan.version,
        entropy=entropy,
        now_ms=now_ms,
        room_id=plan.room_id,
    )
    room_id = created.event.room_id
    await join_here(session, timeline, room_id, creator, {}, now_ms=now_ms)
    if plan.alias is not None and not await aliases.add_alias(session, plan.alias, room_id, creator, now_ms=now_ms):
        raise RoomInUse("Room alias already taken")
    for event_type, state_key, content in _state_events(creator, plan):
        draft = Draft(room_id, event_type, creator, content, state_key=state_key)
        check_content(draft, timeline.server_name, plan.version)
        try:
            await send_event(session, timeline, draft, now_ms=now_ms)
        except NotAllowed as error:
            raise InvalidRoomState(f"{event_type}: {error}") from error
    if plan.published:
        await aliases.publish(session, room_id, now_ms=now_ms)
    return room_id


def _create_content(creator: str, plan: Plan) -> dict[str, Any]:
    """Of ``m.room.create``. Raises ``BadJson``."""
    content = {**plan.creation_content, "room_version": plan.version.identifier}
    content.pop("creator", None)
    if plan.predecessor is not None:
        content["predecessor"] = dict(plan.predecessor)
    if plan.version.creator_in_content:
        content["creator"] = creator
    if plan.version.privileged_creators:
        named = content.get("additional_creators", [])
        if not isinstance(named, list) or not all(is_user_id(user_id) for user_id in named):
            raise InvalidParam("additional_creators is a list of user IDs")
        if plan.preset == TRUSTED:
            named = [*named, *plan.invite]
        content["additional_creators"] = [user_id for user_id in dict.fromkeys(named) if user_id != creator]
        if not content["additional_creators"]:
            del content["additional_creators"]
    return content


def _state_events(creator: str, plan: Plan) -> list[StateEvent]:
    """Everything after the creator's joining, in the specification's order; each key once."""
    levels = initial_power_levels(
        plan.version, creator, list(plan.invite), preset=plan.preset, override=plan.power_levels
    )
    initial = {(event_type, key): content for event_type, key, content in plan.initial_state}
    for event_type, key in initial:
        if event_type in _OURS[:2] or (event_type == _OURS[2] and key != ""):
            raise BadJson(f"{event_type} cannot be set by initial_state")
    named = {
        ("m.room.name", ""): None if plan.name is None else {"name": plan.name},
        ("m.room.topic", ""): None if plan.topic is None else topic_content(plan.topic),
    }
    events = [("m.room.power_levels", "", initial.pop(("m.room.power_levels", ""), levels))]
    if plan.alias is not None:
        events.append((CANONICAL_ALIAS, "", {"alias": plan.alias}))
    events += [preset for preset in preset_events(plan.preset) if preset[:2] not in initial]
    events += [(*key, content) for key, content in initial.items() if named.get(key) is None]
    events += [(*key, content) for key, content in named.items() if content is not None]
    return events


def topic_content(topic: str) -> dict[str, Any]:
    """Of ``m.room.topic``, also for clients that read ``m.topic``."""
    return {"topic": topic, "m.topic": {"m.text": [{"body": topic, "mimetype": "text/plain"}]}}
