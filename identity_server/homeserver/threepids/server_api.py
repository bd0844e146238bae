"""Third-party identifiers bound elsewhere (Server-Server API, "Third-party invites")."""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import ConfigDict, Field

from identity_server.homeserver.threepids.onbind import Invite, keep_notice
from identity_server.homeserver.threepids.take_up import OpenTakingUp
from identity_server.matrix.errors import InvalidParam
from identity_server.matrix.identifiers import Opaque, RoomID, Text, UserID
from identity_server.matrix.threepid import canonical
from identity_server.runtime.dependencies import Limits, Now, OpenDatabase, OpenSettings, OpenTasks, Source
from identity_server.runtime.requests import Body, JsonRoute

router = APIRouter(prefix="/_matrix/federation/v1/3pid", tags=["threepids"], route_class=JsonRoute)

Name = Annotated[Text, Field(min_length=1, max_length=255)]


class Signed(Body):
    """Kept whole: identity servers sign more than the specification names, such as the sender."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    mxid: UserID
    token: Opaque
    signatures: dict[str, dict[str, str]]


class ToldInvite(Body):
    mxid: UserID
    room_id: RoomID
    sender: UserID
    signed: Signed


class BindingNotice(Body):
    medium: Name
    address: Name
    mxid: UserID
    invites: list[ToldInvite] = Field(default=[], max_length=1000)


# PUT is the specification's; POST is what Synapse serves, and so what identity servers send.
@router.put("/onbind")
@router.post("/onbind")
async def on_bind(
    body: BindingNotice,
    database: OpenDatabase,
    taking_up: OpenTakingUp,
    settings: OpenSettings,
    tasks: OpenTasks,
    limits: Limits,
    source: Source,
    now_ms: Now,
) -> dict[str, Any]:
    await limits.hit("onbind_per_source", source)
    if any({invite.mxid, invite.signed.mxid} != {body.mxid} for invite in body.invites):
        raise InvalidParam("An invite is for somebody else than the user who bound the address")
    threepid = canonical(body.medium, body.address)
    invites = [Invite(invite.room_id, invite.sender, invite.signed.model_dump()) for invite in body.invites]
    # Kept whatever becomes of them: taking them up asks other servers, and takes transactions of its own.
    async with database.transaction() as session:
        new = await keep_notice(
            session,
            body.mxid,
            threepid,
            invites,
            server_name=settings.homeserver.name,
            tasks=tasks,
            now_ms=now_ms,
        )
    await taking_up.at_once(new)
    return {}
