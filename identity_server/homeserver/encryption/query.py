"""Whose keys are which (Client-Server API, ``POST /keys/query``; Server-Server API, ``POST /user/keys/query``)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.access import store as access
from identity_server.homeserver.accounts import store as accounts
from identity_server.homeserver.encryption import store
from identity_server.homeserver.encryption.device_lists import store as device_lists
from identity_server.homeserver.encryption.key_json import shown

Asked = Mapping[str, Collection[str]]
"""Device IDs by user; none: all that the user has."""

KEYS_OF = {
    store.MASTER: "master_keys",
    store.SELF_SIGNING: "self_signing_keys",
    store.USER_SIGNING: "user_signing_keys",
}


@dataclass
class Answer:
    """The maps of the answer: by user, those of devices by device too."""

    device_keys: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    master_keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    self_signing_keys: dict[str, dict[str, Any]] = field(default_factory=dict)
    user_signing_keys: dict[str, dict[str, Any]] = field(default_factory=dict)

    def of_usage(self, usage: str) -> dict[str, dict[str, Any]]:
        """The map of cross-signing keys of this usage."""
        of_usage: dict[str, dict[str, Any]] = getattr(self, KEYS_OF[usage])
        return of_usage


async def query_local(session: AsyncSession, asked: Asked, answer: Answer, *, viewer: str | None) -> None:
    """Add the keys of users of ours, as ``viewer`` sees them (None: another server). Nobody's are missing."""
    known = await accounts.active_users(session, asked)
    keys = await store.device_keys(session, known)
    signatures = await store.signatures_on(session, known, viewer=viewer)
    names = await access.devices_of_users(session, known)
    for user_id in known:
        of_user = answer.device_keys.setdefault(user_id, {})
        for device_id, device in keys.get(user_id, {}).items():
            if not asked[user_id] or device_id in asked[user_id]:
                added = signatures.get((user_id, device_id), {})
                of_user[device_id] = _named(shown(device, added, signers=(user_id,)), names.get((user_id, device_id)))
    await _add_cross_signing_keys(session, known, signatures, answer, viewer=viewer)


async def query_kept(session: AsyncSession, asked: Asked, answer: Answer, *, viewer: str) -> None:
    """Add the keys of users elsewhere whose lists we keep."""
    devices = await device_lists.remote_devices(session, asked)
    for user_id, wanted in asked.items():
        answer.device_keys[user_id] = {
            device_id: _named(shown(device.keys, {}, signers=(user_id,)), device.display_name)
            for device_id, device in devices.get(user_id, {}).items()
            if device.keys is not None and (not wanted or device_id in wanted)
        }
    signatures = await store.signatures_on(session, asked, viewer=viewer)
    await _add_cross_signing_keys(session, asked, signatures, answer, viewer=viewer)


async def with_signatures_of(session: AsyncSession, answer: Answer, user_ids: Collection[str], *, viewer: str) -> None:
    """Add ``viewer``'s own signatures to what another server said just now of the master keys of ``user_ids``."""
    signatures = await store.signatures_on(session, user_ids, viewer=viewer)
    for user_id, key in answer.master_keys.items():
        if user_id in user_ids:
            for key_id in key["keys"]:
                made = signatures.get((user_id, key_id.partition(":")[2]), {}).get(viewer, {})
                if made:
                    key.setdefault("signatures", {}).setdefault(viewer, {}).update(made)


async def _add_cross_signing_keys(
    session: AsyncSession, user_ids: Collection[str], signatures: store.Signed, answer: Answer, *, viewer: str | None
) -> None:
    for user_id, by_usage in (await store.cross_signing_keys(session, user_ids)).items():
        for usage, key in by_usage.items():
            # "Users will not be able to see signatures made by other users' user-signing keys", nor those keys.
            if usage == store.USER_SIGNING and user_id != viewer:
                continue
            signers = (user_id,) if viewer is None else (user_id, viewer)
            added = signatures.get((user_id, key.public_key), {})
            answer.of_usage(usage)[user_id] = shown(key.keys, added, signers=signers)


def _named(keys: dict[str, Any], display_name: str | None) -> dict[str, Any]:
    """With ``unsigned.device_display_name``; without a name ``unsigned`` is empty."""
    return {**keys, "unsigned": {} if display_name is None else {"device_display_name": display_name}}
