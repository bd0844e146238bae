"""Ending one's account (Client-Server API, "Account deactivation")."""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from identity_server.homeserver.access.current import CurrentUser
from identity_server.homeserver.accounts.confirm import Confirm
from identity_server.homeserver.accounts.interactive import Attempt
from identity_server.homeserver.deactivation.deactivate import OpenDeactivation
from identity_server.matrix.identifiers import Text
from identity_server.runtime.dependencies import Now
from identity_server.runtime.requests import Body, JsonOrNothingRoute

router = APIRouter(prefix="/account", tags=["accounts"], route_class=JsonOrNothingRoute)


class DeactivationRequest(Body):
    auth: Attempt | None = None
    id_server: Annotated[Text, Field(min_length=1, max_length=300)] | None = None
    erase: bool = False


@router.post("/deactivate")
async def deactivate(
    body: DeactivationRequest, user: CurrentUser, confirm: Confirm, deactivation: OpenDeactivation, now_ms: Now
) -> dict[str, Any]:
    proof = await confirm.user(user.user_id, body.auth, "POST /account/deactivate")
    result = await deactivation.deactivate(
        proof, user.user_id, id_server=body.id_server, erase=body.erase, now_ms=now_ms
    )
    return {"id_server_unbind_result": result}
