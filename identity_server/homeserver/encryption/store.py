from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import NamedTuple

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.encryption.models import CrossSigningKey, DeviceKeys, KeySignature
from identity_server.runtime.database import in_chunks, insert

MASTER, SELF_SIGNING, USER_SIGNING = "master", "self_signing", "user_signing"


class StoredKey(NamedTuple):
    """A cross-signing key; ``keys`` is JSON."""

    public_key: str
    keys: str


class Signature(NamedTuple):
    """By ``signer``, with ``signing_key_id``, on the key ``key_id`` (a device ID or public key) of ``user_id``."""

    user_id: str
    key_id: str
    signer: str
    signing_key_id: str
    signature: str


Signed = dict[tuple[str, str], dict[str, dict[str, str]]]
"""Signatures by the user and key ID of what is signed, then by signer and signing key."""


# Devices


async def device_keys(session: AsyncSession, user_ids: Iterable[str]) -> dict[str, dict[str, str]]:
    """The keys, as JSON, of the devices of users of ours."""
    found: dict[str, dict[str, str]] = {}
    for chunk in in_chunks(sorted(user_ids)):
        statement = select(DeviceKeys.user_id, DeviceKeys.device_id, DeviceKeys.keys.label("json"))
        for row in await session.execute(statement.where(DeviceKeys.user_id.in_(chunk))):
            found.setdefault(row.user_id, {})[row.device_id] = row.json
    return found


async def keys_of_device(session: AsyncSession, user_id: str, device_id: str) -> str | None:
    keys: str | None = await session.scalar(
        select(DeviceKeys.keys).where(DeviceKeys.user_id == user_id, DeviceKeys.device_id == device_id)
    )
    return keys


async def set_device_keys(session: AsyncSession, user_id: str, device_id: str, keys: str) -> None:
    row = {"user_id": user_id, "device_id": device_id, "keys": keys}
    statement = insert(session, DeviceKeys).values(row)
    await session.execute(statement.on_conflict_do_update(index_elements=["user_id", "device_id"], set_={"keys": keys}))


async def forget_device_keys(session: AsyncSession, user_id: str, device_ids: Collection[str]) -> None:
    """With the signatures on them, and by them."""
    await session.execute(delete(DeviceKeys).where(DeviceKeys.user_id == user_id, DeviceKeys.device_id.in_(device_ids)))
    await forget_signatures(session, user_id, device_ids)


# Cross-signing


async def cross_signing_keys(session: AsyncSession, user_ids: Iterable[str]) -> dict[str, dict[str, StoredKey]]:
    """By user and usage."""
    found: dict[str, dict[str, StoredKey]] = {}
    for chunk in in_chunks(sorted(user_ids)):
        statement = select(
            CrossSigningKey.user_id,
            CrossSigningKey.usage,
            CrossSigningKey.public_key,
            CrossSigningKey.keys.label("json"),
        )
        for row in await session.execute(statement.where(CrossSigningKey.user_id.in_(chunk))):
            found.setdefault(row.user_id, {})[row.usage] = StoredKey(row.public_key, row.json)
    return found


async def set_cross_signing_key(session: AsyncSession, user_id: str, usage: str, key: StoredKey) -> None:
    row = {"user_id": user_id, "usage": usage, "public_key": key.public_key, "keys": key.keys}
    statement = insert(session, CrossSigningKey).values(row)
    await session.execute(statement.on_conflict_do_update(index_elements=["user_id", "usage"], set_=row))


async def remove_cross_signing_keys(session: AsyncSession, user_ids: Collection[str], usages: Collection[str]) -> None:
    for chunk in in_chunks(sorted(user_ids)):
        await session.execute(
            delete(CrossSigningKey).where(CrossSigningKey.user_id.in_(chunk), CrossSigningKey.usage.in_(usages))
        )


# Signatures


async def add_signatures(session: AsyncSession, signatures: Iterable[Signature]) -> None:
    """A signature with the same key on the same key takes the place of the former."""
    for signature in signatures:
        row = signature._asdict()
        statement = insert(session, KeySignature).values(row)
        await session.execute(
            statement.on_conflict_do_update(
                index_elements=["user_id", "key_id", "signer", "signing_key_id"],
                set_={"signature": signature.signature},
            )
        )


async def signatures_on(session: AsyncSession, user_ids: Iterable[str], *, viewer: str | None) -> Signed:
    """Those on keys of ``user_ids`` that were uploaded later, by the users themselves and by ``viewer``."""
    found: Signed = defaultdict(dict)
    for chunk in in_chunks(sorted(user_ids)):
        is_theirs = KeySignature.signer == KeySignature.user_id
        visible = is_theirs if viewer is None else is_theirs | (KeySignature.signer == viewer)
        statement = select(
            KeySignature.user_id,
            KeySignature.key_id,
            KeySignature.signer,
            KeySignature.signing_key_id,
            KeySignature.signature,
        )
        for row in await session.execute(statement.where(KeySignature.user_id.in_(chunk), visible)):
            signed = found[row.user_id, row.key_id].setdefault(row.signer, {})
            signed[row.signing_key_id] = row.signature
    return found


async def forget_signatures(session: AsyncSession, user_id: str, key_ids: Collection[str]) -> None:
    """Those on these keys of the user, and those that the user made with them."""
    on_them = (KeySignature.user_id == user_id) & KeySignature.key_id.in_(key_ids)
    by_them = (KeySignature.signer == user_id) & KeySignature.signing_key_id.in_([f"ed25519:{key}" for key in key_ids])
    await session.execute(delete(KeySignature).where(on_them))
    await session.execute(delete(KeySignature).where(by_them))
