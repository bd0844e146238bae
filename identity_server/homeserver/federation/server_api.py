"""What other servers ask of us (Server-Server API)."""

from typing import Any

from fastapi import APIRouter

from identity_server import __version__
from identity_server.homeserver.federation import key_api, membership_api, room_api, transaction_api
from identity_server.runtime.routing import allow_closing_slash, include

router = APIRouter(tags=["federation"])
for _part in (key_api, transaction_api, room_api, membership_api):
    include(router, _part.router)


@router.get("/_matrix/federation/v1/version")
async def get_version() -> dict[str, Any]:
    return {"server": {"name": "identity-server homeserver", "version": __version__}}


# As the first servers asked, and those that were written after them.
allow_closing_slash(router)
