"""What peers that run Sydent ask of us, on a port of its own: their certificates say who they are."""

from typing import Any

from fastapi import APIRouter, Request

from identity_server.identity.replication import store
from identity_server.identity.replication.sydent.receive import take_batch, trusted_peer
from identity_server.identity.replication.sydent.tls import subject_of
from identity_server.identity.replication.sydent.wire import PATH, read_batch
from identity_server.runtime.dependencies import OpenResources
from identity_server.runtime.requests import parse_object

router = APIRouter(tags=["replication"])


@router.post(PATH)
async def take_push(request: Request, resources: OpenResources) -> dict[str, Any]:
    database, now_ms = resources.database, resources.clock.now_ms()
    async with database.reading() as session:
        peer = await trusted_peer(session, subject_of(request.state.client_certificate), now_ms=now_ms)
        keys = await store.peer_keys(session, peer.name)
    await resources.limits.hit("replication_per_peer", peer.name)
    batch = read_batch(parse_object(await request.body()), peer.name, keys)
    latest_ts = now_ms + resources.settings.replication.max_clock_skew
    async with database.transaction() as session:
        await take_batch(session, peer.name, batch, latest_ts=latest_ts, now_ms=now_ms)
    return {"success": True}
