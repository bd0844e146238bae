"""Creating rooms, and replacing them by newer ones."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import Field, model_validator

from identity_server.homeserver.access.current import CurrentUser
from identity_server.homeserver.events.versions import room_version
from identity_server.homeserver.rooms.create import Plan
from identity_server.homeserver.rooms.membership import OpenMembers
from identity_server.homeserver.rooms.open import open_room
from identity_server.homeserver.rooms.upgrade import upgrade_room
from identity_server.homeserver.threepids.invite import ThreepidInvitation
from identity_server.homeserver.timeline.timeline import OpenTimeline
from identity_server.matrix.errors import BadJson, InvalidParam
from identity_server.matrix.identifiers import RoomID, Text, UserID
from identity_server.runtime.dependencies import Now, OpenSettings, Random, Transaction
from identity_server.runtime.requests import Body, JsonRoute

router = APIRouter(tags=["rooms"], route_class=JsonRoute)

_MOST_INVITED = 1000


class InitialState(Body):
    type: Text
    state_key: Text = ""
    content: dict[str, Any]


class Wish(Body):
    visibility: Literal["public", "private"] = "private"
    room_alias_name: Text | None = None
    name: str | None = None
    topic: str | None = None
    invite: Annotated[list[UserID], Field(max_length=_MOST_INVITED, default_factory=list)]
    invite_3pid: Annotated[list[ThreepidInvitation], Field(max_length=_MOST_INVITED, default_factory=list)]
    room_version: Any = None
    creation_content: dict[str, Any] = Field(default_factory=dict)
    initial_state: list[InitialState] = Field(default_factory=list)
    preset: Literal["private_chat", "public_chat", "trusted_private_chat"] | None = None
    is_direct: bool = False
    power_level_content_override: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, body: dict[str, Any]) -> dict[str, Any]:
        """Some clients say of everything that they do not wish that it is null."""
        return {name: value for name, value in body.items() if value is not None}

    def plan(self, server_name: str, default_version: str) -> Plan:
        """Raises ``BadJson``, ``InvalidParam`` and ``UnsupportedRoomVersion``."""
        version = default_version if self.room_version is None else self.room_version
        if not isinstance(version, str):
            raise BadJson("room_version is a string")
        if self.room_alias_name is not None and (not self.room_alias_name or ":" in self.room_alias_name):
            raise InvalidParam("room_alias_name is the part of an alias between # and :")
        published = self.visibility == "public"
        return Plan(
            version=room_version(version),
            preset=self.preset or ("public_chat" if published else "private_chat"),
            published=published,
            alias=None if self.room_alias_name is None else f"#{self.room_alias_name}:{server_name}",
            name=self.name,
            topic=self.topic,
            invite=tuple(dict.fromkeys(self.invite)),
            creation_content=self.creation_content,
            initial_state=tuple((state.type, state.state_key, state.content) for state in self.initial_state),
            power_levels=self.power_level_content_override,
        )


class Upgrade(Body):
    new_version: Any
    additional_creators: list[UserID] = Field(default_factory=list)


@router.post("/createRoom")
async def create_room(
    body: Wish, user: CurrentUser, members: OpenMembers, settings: OpenSettings, entropy: Random
) -> dict[str, Any]:
    plan = body.plan(members.timeline.server_name, settings.homeserver.default_room_version)
    room_id = await open_room(members, user.user_id, plan, body.invite_3pid, is_direct=body.is_direct, entropy=entropy)
    return {"room_id": room_id}


@router.post("/rooms/{room_id}/upgrade")
async def upgrade(
    room_id: RoomID,
    body: Upgrade,
    user: CurrentUser,
    session: Transaction,
    timeline: OpenTimeline,
    entropy: Random,
    now_ms: Now,
) -> dict[str, Any]:
    replacement = await upgrade_room(
        session,
        timeline,
        user.user_id,
        room_id,
        room_version(body.new_version),
        additional_creators=body.additional_creators,
        entropy=entropy,
        now_ms=now_ms,
    )
    return {"replacement_room": replacement}
