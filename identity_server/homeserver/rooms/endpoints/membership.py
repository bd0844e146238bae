"""Coming in, going out, and being kept out (Client-Server API, "Room membership")."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import ConfigDict

from identity_server.homeserver.access.current import CurrentUser
from identity_server.homeserver.rooms import here
from identity_server.homeserver.rooms.forget import forget_room
from identity_server.homeserver.rooms.membership import OpenMembers
from identity_server.homeserver.threepids.invite import ThreepidInvitation
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.timeline import OpenTimeline
from identity_server.homeserver.typing.typing import OpenTyping
from identity_server.matrix.errors import MissingParam
from identity_server.matrix.identifiers import RoomID, Text
from identity_server.runtime.dependencies import Now, Reading, Transaction
from identity_server.runtime.requests import Body, JsonOrNothingRoute

router = APIRouter(tags=["rooms"], route_class=JsonOrNothingRoute)

Servers = Annotated[Sequence[str], Query()]


class Reason(Body):
    reason: str | None = None

    @property
    def content(self) -> dict[str, Any]:
        return {} if self.reason is None else {"reason": self.reason}


class Joining(Reason):
    """What else is said becomes part of the membership, as if it had been written as state."""

    model_config = ConfigDict(extra="allow")

    third_party_signed: dict[str, Any] | None = None

    @property
    def content(self) -> dict[str, Any]:
        return {**(self.model_extra or {}), **super().content}


class Target(Reason):
    user_id: Text


class Invitation(Reason):
    """One of two forms: a user, or an address."""

    user_id: Text | None = None
    id_server: Text | None = None
    id_access_token: Text | None = None
    medium: Text | None = None
    address: Text | None = None

    @property
    def threepid(self) -> ThreepidInvitation:
        """Raises ``MissingParam``."""
        given = {name: getattr(self, name) for name in ("id_server", "id_access_token", "medium", "address")}
        missing = [name for name, value in given.items() if value is None]
        if missing:
            raise MissingParam(f"{'user_id' if len(missing) == len(given) else missing[0]} is missing")
        return ThreepidInvitation(**given)


@router.get("/joined_rooms")
async def get_joined_rooms(user: CurrentUser, session: Reading) -> dict[str, Any]:
    return {"joined_rooms": sorted(await store.joined_rooms(session, user.user_id))}


@router.post("/rooms/{room_id}/invite")
async def invite(room_id: RoomID, body: Invitation, user: CurrentUser, members: OpenMembers) -> dict[str, Any]:
    if body.user_id is None:
        await members.invite_threepid(user.user_id, room_id, body.threepid, **body.content)
    else:
        await members.invite(user.user_id, room_id, body.user_id, body.content)
    return {}


@router.post("/join/{room:path}")
async def join(
    room: Text,
    body: Joining,
    user: CurrentUser,
    members: OpenMembers,
    via: Servers = (),
    server_name: Servers = (),
) -> dict[str, Any]:
    room_id = await members.join(
        user.user_id,
        room,
        via=[*via, *server_name],
        content=body.content,
        third_party_signed=body.third_party_signed,
    )
    return {"room_id": room_id}


@router.post("/rooms/{room_id}/join")
async def join_by_id(room_id: RoomID, body: Joining, user: CurrentUser, members: OpenMembers) -> dict[str, Any]:
    joined = await members.join(user.user_id, room_id, content=body.content, third_party_signed=body.third_party_signed)
    return {"room_id": joined}


@router.post("/knock/{room:path}")
async def knock(
    room: Text,
    body: Reason,
    user: CurrentUser,
    members: OpenMembers,
    via: Servers = (),
    server_name: Servers = (),
) -> dict[str, Any]:
    return {"room_id": await members.knock(user.user_id, room, via=[*via, *server_name], content=body.content)}


@router.post("/rooms/{room_id}/forget")
async def forget(room_id: RoomID, user: CurrentUser, session: Transaction) -> dict[str, Any]:
    await forget_room(session, room_id, user.user_id)
    return {}


@router.post("/rooms/{room_id}/leave")
async def leave(
    room_id: RoomID, body: Reason, user: CurrentUser, members: OpenMembers, typing: OpenTyping
) -> dict[str, Any]:
    await members.leave(user.user_id, room_id, body.content)
    typing.stop(room_id, user.user_id)
    return {}


@router.post("/rooms/{room_id}/kick")
async def kick(
    room_id: RoomID,
    body: Target,
    user: CurrentUser,
    session: Transaction,
    timeline: OpenTimeline,
    typing: OpenTyping,
    now_ms: Now,
) -> dict[str, Any]:
    await here.kick(session, timeline, room_id, user.user_id, body.user_id, body.content, now_ms=now_ms)
    typing.stop(room_id, body.user_id)
    return {}


@router.post("/rooms/{room_id}/ban")
async def ban(
    room_id: RoomID,
    body: Target,
    user: CurrentUser,
    session: Transaction,
    timeline: OpenTimeline,
    typing: OpenTyping,
    now_ms: Now,
) -> dict[str, Any]:
    await here.ban(session, timeline, room_id, user.user_id, body.user_id, body.content, now_ms=now_ms)
    typing.stop(room_id, body.user_id)
    return {}


@router.post("/rooms/{room_id}/unban")
async def unban(
    room_id: RoomID, body: Target, user: CurrentUser, session: Transaction, timeline: OpenTimeline, now_ms: Now
) -> dict[str, Any]:
    await here.unban(session, timeline, room_id, user.user_id, body.user_id, body.content, now_ms=now_ms)
    return {}
