"""Telling of changed keys: our users by /sync, other servers by EDUs (Server-Server API, "Device Management").

Each function takes a position of the stream, for which others wait: call it last in the transaction.
"""

from collections.abc import Collection, Iterable
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.access import store as access
from identity_server.homeserver.encryption import store
from identity_server.homeserver.encryption.device_lists import store as device_lists
from identity_server.homeserver.encryption.key_json import shown
from identity_server.homeserver.federation.edus import queue_edus
from identity_server.homeserver.streams import Streams, advance
from identity_server.homeserver.timeline import sharing
from identity_server.homeserver.timeline import store as timeline
from identity_server.matrix.identifiers import domain_of

DEVICE_LIST_UPDATE = "m.device_list_update"
SIGNING_KEY_UPDATE = "m.signing_key_update"


async def devices_changed(session: AsyncSession, streams: Streams, user_id: str, device_ids: Iterable[str]) -> None:
    """A user of ours has other keys on these devices, another name for them, or has them no more."""
    servers = await _other_servers(session, user_id)
    descriptions = await described_devices(session, user_id)
    for device_id in device_ids:
        position = await _announce(session, streams, user_id)
        former = await device_lists.record_change(session, user_id, position, stream_id=position)
        content = {
            "user_id": user_id,
            "device_id": device_id,
            "stream_id": position,
            "prev_id": [] if former is None else [former],
            **descriptions.get(device_id, {"deleted": True}),
        }
        await queue_edus(session, servers, DEVICE_LIST_UPDATE, content, streams=streams)


async def signing_keys_changed(session: AsyncSession, streams: Streams, user_id: str) -> None:
    """A user of ours has another master or self-signing key, or another signature on the former."""
    servers = await _other_servers(session, user_id)
    content = {"user_id": user_id, **await described_signing_keys(session, user_id)}
    position = await _announce(session, streams, user_id)
    await device_lists.record_change(session, user_id, position)
    await queue_edus(session, servers, SIGNING_KEY_UPDATE, content, streams=streams)


async def seen_keys_changed(
    session: AsyncSession, streams: Streams, user_ids: Collection[str], *, seen_by: str
) -> None:
    """What ``seen_by`` alone sees of the keys of ``user_ids`` has changed: own user-signing keys and signatures."""
    if user_ids:
        position = await advance(session, streams, seen_by)
        for user_id in user_ids:
            await device_lists.record_change(session, user_id, position, seen_by=seen_by)


async def remote_keys_changed(session: AsyncSession, streams: Streams, user_id: str) -> None:
    """The same of a user elsewhere: only our users are told."""
    position = await _announce(session, streams, user_id)
    await device_lists.record_change(session, user_id, position)


async def described_devices(session: AsyncSession, user_id: str) -> dict[str, dict[str, Any]]:
    """``keys`` and ``device_display_name``, as far as there are any, of each device of a user of ours."""
    keys = (await store.device_keys(session, [user_id])).get(user_id, {})
    signatures = await store.signatures_on(session, [user_id], viewer=None)
    described: dict[str, dict[str, Any]] = {}
    for device in await access.devices_of(session, user_id):
        description: dict[str, Any] = {}
        if device.device_id in keys:
            added = signatures.get((user_id, device.device_id), {})
            description["keys"] = shown(keys[device.device_id], added, signers=(user_id,))
        if device.display_name is not None:
            description["device_display_name"] = device.display_name
        described[device.device_id] = description
    return described


async def described_signing_keys(session: AsyncSession, user_id: str) -> dict[str, Any]:
    """``master_key`` and ``self_signing_key``, as far as there are any."""
    keys = (await store.cross_signing_keys(session, [user_id])).get(user_id, {})
    signatures = await store.signatures_on(session, [user_id], viewer=None)
    return {
        f"{usage}_key": shown(
            keys[usage].keys, signatures.get((user_id, keys[usage].public_key), {}), signers=(user_id,)
        )
        for usage in (store.MASTER, store.SELF_SIGNING)
        if usage in keys
    }


async def _announce(session: AsyncSession, streams: Streams, user_id: str) -> int:
    return await advance(session, streams, user_id, *await timeline.joined_rooms(session, user_id))


async def _other_servers(session: AsyncSession, user_id: str) -> set[str]:
    return await sharing.servers_sharing(session, user_id) - {domain_of(user_id)}
