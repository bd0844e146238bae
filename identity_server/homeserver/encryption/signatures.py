"""Uploading signatures (Client-Server API, ``POST /keys/signatures/upload``).

A user may sign: own devices, with the self-signing key; the own master key, with a device; others' master keys, with
the user-signing key.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.encryption import store
from identity_server.homeserver.encryption.device_lists.changes import (
    devices_changed,
    seen_keys_changed,
    signing_keys_changed,
)
from identity_server.homeserver.encryption.key_json import device_key, public_key, unsigned_form
from identity_server.homeserver.encryption.store import MASTER, SELF_SIGNING, USER_SIGNING, Signature, Signed, StoredKey
from identity_server.homeserver.streams import Streams
from identity_server.matrix.canonical_json import NotCanonical
from identity_server.matrix.errors import BadJson, InvalidParam, InvalidSignature, MatrixError, NotFound
from identity_server.matrix.identifiers import check_user_id
from identity_server.matrix.signing import InvalidSignature as WrongSignature
from identity_server.matrix.signing import VerifyKey, verify_json

Failures = dict[str, dict[str, dict[str, Any]]]
"""The error of each key whose signatures were not taken, by user and key ID."""


@dataclass(frozen=True)
class _Signer:
    """A user, and what the user may sign with; keys as JSON."""

    user_id: str
    devices: Mapping[str, str]
    signing_keys: Mapping[str, StoredKey]
    signatures: Signed
    """What was uploaded before."""

    def key(self, usage: str) -> VerifyKey:
        """Raises ``NotFound``."""
        if usage not in self.signing_keys:
            raise NotFound(f"There is no {usage} key")
        return public_key(orjson.loads(self.signing_keys[usage].keys))


@dataclass
class _Taken:
    signatures: list[Signature] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)
    own_master: bool = False
    others: list[str] = field(default_factory=list)


async def upload_signatures(
    session: AsyncSession, streams: Streams, user_id: str, signed: Mapping[str, Any]
) -> Failures:
    """``signed``: keys with new signatures, by user and key ID. What is right is taken, whatever else is wrong.

    Raises ``BadJson``.
    """
    _check_form(signed)
    known = await store.cross_signing_keys(session, {user_id, *signed})
    devices = (await store.device_keys(session, [user_id])).get(user_id, {})
    before = await store.signatures_on(session, signed, viewer=user_id)
    signer = _Signer(user_id, devices, known.get(user_id, {}), before)
    taken, failures = _Taken(), Failures()
    for target, by_key in signed.items():
        for key_id, key in by_key.items():
            try:
                if target == user_id:
                    _take_own(signer, key_id, key, taken)
                else:
                    _take_master_of(signer, target, known.get(target, {}).get(MASTER), key_id, key, taken)
            except MatrixError as error:
                failures.setdefault(target, {})[key_id] = error.body
    await store.add_signatures(session, taken.signatures)
    await _tell(session, streams, user_id, taken)
    return failures


def _check_form(signed: Mapping[str, Any]) -> None:
    for user_id, by_key in signed.items():
        try:
            check_user_id(user_id)
        except ValueError as error:
            raise BadJson("Signed keys are named by user and key ID") from error
        if not isinstance(by_key, dict):
            raise BadJson("Signed keys are named by user and key ID")


def _take_own(signer: _Signer, key_id: str, key: Any, taken: _Taken) -> None:
    if key_id in signer.devices:
        made = _new_signatures(signer, signer.user_id, key_id, key, signer.devices[key_id], [signer.key(SELF_SIGNING)])
        taken.devices += [key_id] if made else []
    elif MASTER in signer.signing_keys and key_id == signer.signing_keys[MASTER].public_key:
        device_keys = [device_key(orjson.loads(keys), device_id) for device_id, keys in signer.devices.items()]
        usable = [device for device in device_keys if device is not None]
        made = _new_signatures(signer, signer.user_id, key_id, key, signer.signing_keys[MASTER].keys, usable)
        taken.own_master = taken.own_master or bool(made)
    else:
        raise NotFound("The user has no such device, and no such master key")
    taken.signatures += made


def _take_master_of(
    signer: _Signer, target: str, master: StoredKey | None, key_id: str, key: Any, taken: _Taken
) -> None:
    user_signing = signer.key(USER_SIGNING)
    if master is None or key_id != master.public_key:
        raise NotFound("The user has no such master key")
    made = _new_signatures(signer, target, key_id, key, master.keys, [user_signing])
    taken.signatures += made
    taken.others += [target] if made else []


def _new_signatures(
    signer: _Signer, target: str, key_id: str, key: Any, known: str, usable: Iterable[VerifyKey]
) -> list[Signature]:
    """The signer's, with ``usable`` keys, on a key that is ``known`` in the same form; those with others do not count.

    Raises ``InvalidParam`` and ``InvalidSignature``.
    """
    known_key = orjson.loads(known)
    if not isinstance(key, dict) or unsigned_form(key) != unsigned_form(known_key):
        raise InvalidParam("The signed key is not the one that is known")
    signatures = key.get("signatures")
    made = signatures.get(signer.user_id) if isinstance(signatures, dict) else None
    signing_keys = [each for each in usable if isinstance(made, dict) and each.key_id in made]
    if not isinstance(made, dict) or not signing_keys:
        raise InvalidSignature("There is no signature with a key that signs this one")
    before = dict(known_key.get("signatures", {}).get(signer.user_id, {}))
    before |= signer.signatures.get((target, key_id), {}).get(signer.user_id, {})
    for signing_key in signing_keys:
        try:
            verify_json(key, signer.user_id, signing_key)
        except (WrongSignature, NotCanonical) as error:
            raise InvalidSignature("Invalid signature") from error
    return [
        Signature(target, key_id, signer.user_id, signing_key.key_id, made[signing_key.key_id])
        for signing_key in signing_keys
        if before.get(signing_key.key_id) != made[signing_key.key_id]
    ]


async def _tell(session: AsyncSession, streams: Streams, user_id: str, taken: _Taken) -> None:
    if taken.devices:
        await devices_changed(session, streams, user_id, taken.devices)
    if taken.own_master:
        await signing_keys_changed(session, streams, user_id)
    await seen_keys_changed(session, streams, taken.others, seen_by=user_id)
