"""Uploading cross-signing keys (Client-Server API, "Cross-signing")."""

from collections.abc import Mapping
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.access import store as access
from identity_server.homeserver.encryption import store
from identity_server.homeserver.encryption.device_lists.changes import seen_keys_changed, signing_keys_changed
from identity_server.homeserver.encryption.key_json import (
    public_key,
    stored,
    unsigned_form,
    well_signed,
    without_unsigned,
)
from identity_server.homeserver.encryption.store import MASTER, SELF_SIGNING, USER_SIGNING, StoredKey
from identity_server.homeserver.streams import Streams
from identity_server.matrix.errors import BadJson, Forbidden, InvalidSignature, MissingParam
from identity_server.matrix.signing import InvalidSignature as WrongSignature
from identity_server.matrix.signing import verify_json

USAGES = (MASTER, SELF_SIGNING, USER_SIGNING)

Uploaded = Mapping[str, Mapping[str, Any]]
"""Cross-signing keys by usage."""
Known = Mapping[str, StoredKey]


def read_keys(body: Mapping[str, Any], user_id: str) -> dict[str, dict[str, Any]]:
    """The keys in the body, by usage. Raises ``BadJson``."""
    read: dict[str, dict[str, Any]] = {}
    for usage in USAGES:
        key = body.get(f"{usage}_key")
        if key is None:
            continue
        if not isinstance(key, dict) or not well_signed(key):
            raise BadJson(f"{usage}_key is no key")
        if key.get("user_id") != user_id:
            raise BadJson(f"{usage}_key is another user's")
        if not isinstance(key.get("usage"), list) or usage not in key["usage"]:
            raise BadJson(f"{usage}_key is meant for another usage")
        public_key(key)
        stored(key)
        read[usage] = key
    return read


def check_signatures(keys: Uploaded, known: Known, user_id: str) -> None:
    """The other keys must be signed by the accompanying master key, or else by that which is known.

    Raises ``MissingParam`` if there is none and ``InvalidSignature``.
    """
    if MASTER in keys:
        master: Mapping[str, Any] = keys[MASTER]
    elif MASTER in known:
        master = orjson.loads(known[MASTER].keys)
    else:
        raise MissingParam("No master signing key is available")
    for usage in (SELF_SIGNING, USER_SIGNING):
        if usage in keys:
            try:
                verify_json(keys[usage], user_id, public_key(master))
            except WrongSignature as error:
                raise InvalidSignature(f"{usage}_key is not signed by the master key") from error


def are_known(keys: Uploaded, known: Known) -> bool:
    """Whether none of ``keys`` is new."""
    return all(
        usage in known and unsigned_form(orjson.loads(known[usage].keys)) == unsigned_form(key)
        for usage, key in keys.items()
    )


def needs_confirmation(keys: Uploaded, known: Known) -> bool:
    """Whether User-Interactive Authentication "MUST be performed": only the first keys, and the same, go without."""
    return MASTER in known and not are_known(keys, known)


async def upload_cross_signing_keys(
    session: AsyncSession, streams: Streams, user_id: str, keys: Uploaded, *, confirmed: bool
) -> None:
    """In place of the former ones. Raises ``MissingParam``, ``InvalidSignature``, and ``Forbidden`` for a key whose
    ID is a device's, or if by now there are others that would have to be ``confirmed``."""
    known = (await store.cross_signing_keys(session, [user_id])).get(user_id, {})
    check_signatures(keys, known, user_id)
    if needs_confirmation(keys, known) and not confirmed:
        raise Forbidden("Other keys have been uploaded meanwhile")
    # Another master key has signed the others anew, be they the same.
    new_master = MASTER in keys and not are_known({MASTER: keys[MASTER]}, known)
    new = {usage: key for usage, key in keys.items() if new_master or not are_known({usage: key}, known)}
    devices = {device.device_id for device in await access.devices_of(session, user_id)}
    names = {usage: public_key(key).key_id.partition(":")[2] for usage, key in new.items()}
    if devices.intersection(names.values()):
        raise Forbidden("The ID of a key is that of a device")
    # With another master key, what the former one signed is worth nothing.
    outdated = [usage for usage in known if new_master or usage in new]
    await store.forget_signatures(session, user_id, [known[usage].public_key for usage in outdated])
    await store.remove_cross_signing_keys(session, [user_id], outdated)
    for usage, key in new.items():
        await store.set_cross_signing_key(
            session, user_id, usage, StoredKey(names[usage], stored(without_unsigned(key)))
        )
    if new.keys() & {MASTER, SELF_SIGNING}:
        await signing_keys_changed(session, streams, user_id)
    elif new:
        await seen_keys_changed(session, streams, [user_id], seen_by=user_id)
