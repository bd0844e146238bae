"""Where clients hand in the token of a message that this homeserver had sent ("submit_url" of "requestToken")."""

from typing import Any

from fastapi import APIRouter

from identity_server.homeserver.validation.own_account import OpenOwnAccount
from identity_server.homeserver.validation.request_token import SUBMIT_PATH
from identity_server.matrix.identifiers import Opaque, Text
from identity_server.runtime.dependencies import Limits, Source
from identity_server.runtime.requests import Body, JsonRoute

router = APIRouter(tags=["validation"], route_class=JsonRoute)


class Submission(Body):
    sid: Opaque
    client_secret: Opaque
    token: Text


@router.post(SUBMIT_PATH + "/{medium}/submitToken")
async def submit_token(
    medium: str, body: Submission, own: OpenOwnAccount, limits: Limits, source: Source, id_server: str | None = None
) -> dict[str, Any]:
    await limits.hit("submit_token_per_source", source)
    await own.ask(
        own.trusted.url(id_server),
        lambda client: client.submit_token(medium, body.sid, body.client_secret, body.token),
    )
    return {"success": True}
