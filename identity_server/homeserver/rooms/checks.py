"""What our users may not say, although it would be an event: contents that no client could make sense of."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.events.event import CREATE
from identity_server.homeserver.events.power_levels import DEFAULTS, creators, read_level
from identity_server.homeserver.events.versions import RoomVersion
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.build import Draft
from identity_server.homeserver.timeline.relations import ANNOTATION, THREAD, is_annotated, relation
from identity_server.matrix.canonical_json import LARGEST_INTEGER
from identity_server.matrix.errors import BadJson, InvalidParam, MatrixError

MEMBERSHIPS = ("join", "invite", "leave", "ban", "knock")
# State of which the content's one field is a string, where it is there.
_TEXTS = {"m.room.name": "name", "m.room.topic": "topic", "m.room.join_rules": "join_rule"}
_LEVELS_BY_NAME = ("users", "events", "notifications")


class DuplicateAnnotation(MatrixError):
    errcode = "M_DUPLICATE_ANNOTATION"


def check_content(draft: Draft, server_name: str, version: RoomVersion) -> None:
    """Raises ``BadJson`` and ``InvalidParam``."""
    if draft.state_key is None:
        return
    content = draft.content
    if draft.type in _TEXTS and not isinstance(content.get(_TEXTS[draft.type], ""), str):
        raise BadJson(f"{_TEXTS[draft.type]} is a string")
    match draft.type:
        case "m.room.create":
            raise InvalidParam("The room has been created already")
        case "m.room.power_levels":
            check_power_levels(content, version)
        case "m.room.member" if content.get("membership") not in MEMBERSHIPS:
            raise BadJson("membership is one of " + ", ".join(MEMBERSHIPS))
        case "m.room.tombstone":
            check_replacement(draft)
            if not isinstance(content.get("replacement_room"), str):
                raise BadJson("replacement_room is the ID of another room")
        case "m.room.server_acl" if draft.state_key == "" and not _admits(content, server_name):
            raise InvalidParam("The access control list would shut out your own server")


def check_replacement(draft: Draft) -> None:
    """No room replaces itself, nor says so in a message. Raises ``BadJson``."""
    if draft.type == "m.room.tombstone" and draft.content.get("replacement_room") == draft.room_id:
        raise BadJson("replacement_room is the ID of another room")


def check_power_levels(content: Mapping[str, Any], version: RoomVersion) -> None:
    """Raises ``BadJson`` for what is no level: an integer, in older rooms also a string of digits."""
    for name in DEFAULTS:
        _check_level(name, content.get(name, 0), version)
    for name in _LEVELS_BY_NAME:
        levels = content.get(name, {})
        if not isinstance(levels, Mapping):
            raise BadJson(f"{name} of the power levels is an object")
        for key, level in levels.items():
            _check_level(f"{name}.{key}", level, version)


async def check_creators(session: AsyncSession, draft: Draft) -> None:
    """Raises ``InvalidParam`` for levels of creators who have all power anyway: a mistake rather than a trespass."""
    users = draft.content.get("users")
    if draft.type != "m.room.power_levels" or not isinstance(users, Mapping):
        return
    create = await store.state_event(session, draft.room_id, *CREATE)
    if create and create.version.privileged_creators and creators(create) & users.keys():
        raise InvalidParam("The creators of the room have no power level of their own")


def _check_level(name: str, level: Any, version: RoomVersion) -> None:
    read = read_level(level, version)
    if read is None or abs(read) > LARGEST_INTEGER:
        raise BadJson(f"{name} of the power levels is an integer")


def _admits(content: Mapping[str, Any], server_name: str) -> bool:
    """Whether the list admits us ("m.room.server_acl"); one that admits nobody at all is let pass: it is meant so."""
    allow, deny = content.get("allow"), content.get("deny")
    host = server_name.rpartition(":")[0] or server_name
    if isinstance(deny, list) and any(isinstance(glob, str) and fnmatchcase(host, glob) for glob in deny):
        return False
    if not isinstance(allow, list):
        return True
    return any(isinstance(glob, str) and fnmatchcase(host, glob) for glob in allow)


async def check_relation(session: AsyncSession, draft: Draft) -> None:
    """Raises ``DuplicateAnnotation``, and ``MatrixError`` for a thread within a thread ("Server-side behaviour")."""
    about = draft.content.get("m.relates_to")
    if not isinstance(about, Mapping) or draft.state_key is not None:
        return
    parent, kind = about.get("event_id"), about.get("rel_type")
    if not isinstance(parent, str) or not isinstance(kind, str) or "\0" in parent:
        return
    if kind == ANNOTATION:
        key = about.get("key")
        if isinstance(key, str) and await is_annotated(session, parent, draft.sender, key):
            raise DuplicateAnnotation("You have reacted like this already")
    elif kind == THREAD:
        root = await store.get_event(session, parent)
        if root is not None and relation(root.event).get("rel_type"):
            raise MatrixError("A thread cannot begin with an event that relates to another")
