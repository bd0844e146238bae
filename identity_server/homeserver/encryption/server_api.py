"""Our users' devices and keys, for other servers (Server-Server API, "Device Management", "End-to-End Encryption")."""

from typing import Any

from fastapi import APIRouter, Response

from identity_server.homeserver.accounts import store as accounts
from identity_server.homeserver.encryption.device_lists import store as device_lists
from identity_server.homeserver.encryption.device_lists.changes import described_devices, described_signing_keys
from identity_server.homeserver.encryption.one_time_keys.claim import claim_local
from identity_server.homeserver.encryption.one_time_keys.store import Wanted
from identity_server.homeserver.encryption.query import Answer, query_local
from identity_server.homeserver.federation.requester import Origin
from identity_server.matrix.errors import NotFound
from identity_server.matrix.identifiers import Text, UserID
from identity_server.runtime.dependencies import Reading, Transaction
from identity_server.runtime.errors import json_response
from identity_server.runtime.requests import Body, JsonRoute

router = APIRouter(prefix="/_matrix/federation/v1/user", tags=["federation"], route_class=JsonRoute)


class KeyQuery(Body):
    device_keys: dict[UserID, list[str] | dict[str, Any]]


class Claim(Body):
    one_time_keys: dict[UserID, dict[Text, Text]]


@router.get("/devices/{user_id:path}")
async def get_devices(user_id: UserID, _origin: Origin, session: Reading) -> Response:
    if not await accounts.is_active(session, user_id):
        raise NotFound("There is no such user here")
    devices = await described_devices(session, user_id)
    answer = {
        "user_id": user_id,
        "stream_id": await device_lists.stream_id(session, user_id) or 0,
        # A device without keys takes no part in encryption.
        "devices": [
            {"device_id": device_id, **described} for device_id, described in devices.items() if "keys" in described
        ],
        **await described_signing_keys(session, user_id),
    }
    return json_response(answer)


@router.post("/keys/query")
async def query_keys(body: KeyQuery, _origin: Origin, session: Reading) -> Response:
    answer = Answer()
    asked = {user_id: set(devices) for user_id, devices in body.device_keys.items()}
    await query_local(session, asked, answer, viewer=None)
    return json_response(
        {
            "device_keys": answer.device_keys,
            "master_keys": answer.master_keys,
            "self_signing_keys": answer.self_signing_keys,
        }
    )


@router.post("/keys/claim")
async def claim_keys(body: Claim, _origin: Origin, session: Transaction) -> Response:
    wanted = [
        Wanted(user_id, device_id, algorithm)
        for user_id, devices in body.one_time_keys.items()
        for device_id, algorithm in devices.items()
    ]
    return json_response({"one_time_keys": await claim_local(session, wanted)})
