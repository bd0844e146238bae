"""Taking what another server sends (Server-Server API, "Transactions")."""

from typing import Any

from fastapi import APIRouter

from identity_server.homeserver.federation.requester import Origin
from identity_server.homeserver.federation.transactions import OpenTransactions
from identity_server.runtime.requests import JsonRoute

router = APIRouter(prefix="/_matrix/federation/v1", route_class=JsonRoute)


# Fifty events of 64 KiB, a hundred EDUs, and what JSON adds to them.
LARGER_BODIES = {"/_matrix/federation/v1/send/": 16 * 1024 * 1024}


@router.put("/send/{transaction_id}")
async def send(
    origin: Origin, transaction_id: str, body: dict[str, Any], transactions: OpenTransactions
) -> dict[str, Any]:
    return await transactions.take(origin, transaction_id, body)
