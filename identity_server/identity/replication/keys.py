"""Which keys a peer signs with, through every roll-over.

A peer publishes all its keys in one object, signed with each of them. Whoever trusts one of them finds that it vouches
for the others: a new key is announced by being signed for with an old one.
"""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.replication import store
from identity_server.identity.signing.keyring import Keyring
from identity_server.matrix.signing import InvalidSignature, VerifyKey, is_signed, sign_json, verify_json

_MAX_KEYS = 50


class BadKeys(Exception):
    """What the peer publishes is malformed, or nobody whom we trust has signed it."""


def publish_keys(keyring: Keyring) -> dict[str, Any]:
    published: dict[str, Any] = {
        "server_name": keyring.server_name,
        "keys": {key.key_id: key.verify_key.base64 for key in keyring.keys},
    }
    for key in keyring.keys:
        published = sign_json(published, keyring.server_name, key)
    return published


def read_keys(published: Any) -> tuple[str, list[VerifyKey]]:
    """The server's name and its keys. Raises ``BadKeys`` unless the object is signed with every one of them."""
    try:
        name = str(published["server_name"])
        keys = [VerifyKey.from_base64(key_id, key) for key_id, key in published["keys"].items()]
        for key in keys:
            verify_json(published, name, key)
    except (KeyError, TypeError, ValueError, AttributeError, InvalidSignature) as error:
        raise BadKeys("what the peer publishes as its keys is malformed") from error
    if not 0 < len(keys) <= _MAX_KEYS:
        raise BadKeys("the peer publishes no keys, or too many")
    return name, keys


async def follow_keys(session: AsyncSession, name: str, published: Any, *, now_ms: int) -> None:
    """Trust the keys that ``name`` publishes, if one that we trust already has signed for them. Raises ``BadKeys``."""
    said_name, keys = read_keys(published)
    trusted = await store.peer_keys(session, name)
    if said_name != name or not is_signed(published, name, trusted):
        raise BadKeys("no key that is trusted vouches for the peer's keys")
    await store.add_peer_keys(session, name, keys, now_ms=now_ms)
