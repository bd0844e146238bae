"""A user's own devices (Client-Server API, "Device Management")."""

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import Field

from identity_server.homeserver.access import store
from identity_server.homeserver.access.current import CurrentUser
from identity_server.homeserver.access.last_seen import LastSeen, OpenLastSeen
from identity_server.homeserver.access.models import Device
from identity_server.homeserver.access.removal import OpenDeviceWatchers, remove_devices
from identity_server.homeserver.accounts.confirm import Confirm
from identity_server.homeserver.accounts.interactive import Attempt, finish
from identity_server.matrix.errors import Forbidden, NotFound
from identity_server.matrix.identifiers import Text
from identity_server.runtime.dependencies import Reading, Transaction
from identity_server.runtime.requests import Body, JsonOrNothingRoute

router = APIRouter(tags=["devices"], route_class=JsonOrNothingRoute)


class Renaming(Body):
    display_name: Annotated[Text, Field(max_length=255)] | None = None


class Removal(Body):
    auth: Attempt | None = None


class Removals(Body):
    devices: Annotated[list[Text], Field(max_length=10_000)]
    auth: Attempt | None = None


@router.get("/devices")
async def get_devices(user: CurrentUser, session: Reading, last_seen: OpenLastSeen) -> dict[str, Any]:
    devices = await store.devices_of(session, user.user_id)
    return {"devices": [_described(device, last_seen) for device in devices]}


@router.get("/devices/{device_id}")
async def get_device(device_id: Text, user: CurrentUser, session: Reading, last_seen: OpenLastSeen) -> dict[str, Any]:
    device = await store.find_device(session, user.user_id, device_id)
    if device is None:
        raise NotFound("There is no such device")
    return _described(device, last_seen)


@router.put("/devices/{device_id}")
async def put_device(
    device_id: Text, body: Renaming, user: CurrentUser, session: Transaction, watchers: OpenDeviceWatchers
) -> dict[str, Any]:
    device = await store.find_device(session, user.user_id, device_id)
    if device is None:
        raise NotFound("There is no such device")
    if body.display_name is not None and body.display_name != device.display_name:
        await store.set_display_name(session, user.user_id, device_id, body.display_name)
        for tell in watchers.renamed:
            await tell(session, user.user_id, device_id)
    return {}


@router.delete("/devices/{device_id}")
async def delete_device(
    device_id: Text,
    body: Removal,
    user: CurrentUser,
    confirm: Confirm,
    session: Transaction,
    watchers: OpenDeviceWatchers,
) -> dict[str, Any]:
    proof = await confirm.user(user.user_id, body.auth, f"DELETE /devices/{device_id}")
    await finish(session, proof)
    await remove_devices(session, user.user_id, [device_id], watchers=watchers)
    return {}


@router.post("/delete_devices")
async def delete_devices(
    body: Removals, user: CurrentUser, confirm: Confirm, session: Transaction, watchers: OpenDeviceWatchers
) -> dict[str, Any]:
    proof = await confirm.user(user.user_id, body.auth, "POST /delete_devices")
    await finish(session, proof)
    await remove_devices(session, user.user_id, body.devices, watchers=watchers)
    return {}


@router.get("/admin/whois/{user_id}")
async def who_is(user_id: str, user: CurrentUser, session: Reading, last_seen: OpenLastSeen) -> dict[str, Any]:
    """Client-Server API, "Server Administration": there are no administrators, so of oneself only."""
    if user_id != user.user_id:
        raise Forbidden("One may ask about oneself only")
    devices = [_described(device, last_seen) for device in await store.devices_of(session, user_id)]
    return {
        "user_id": user_id,
        "devices": {device["device_id"]: {"sessions": [{"connections": _connections(device)}]} for device in devices},
    }


def _connections(device: dict[str, Any]) -> list[dict[str, Any]]:
    if not device["last_seen_ip"]:
        return []
    return [{"ip": device["last_seen_ip"], "last_seen": device["last_seen_ts"]}]


def _described(device: Device, last_seen: LastSeen) -> dict[str, Any]:
    """Nothing is left out or null: the specification lets a name be absent, and has no null, but there are clients
    that take no list of devices at all if one of these is missing."""
    pending = last_seen.pending(device.user_id, device.device_id)
    seen_ts, seen_ip = pending or (device.last_seen_ts, device.last_seen_ip)
    return {
        "device_id": device.device_id,
        "user_id": device.user_id,  # not in the specification, yet clients and their tests have come to expect it
        "display_name": device.display_name or "",
        "last_seen_ts": seen_ts or device.created_ts,
        "last_seen_ip": seen_ip or "",
    }
