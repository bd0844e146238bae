"""Who is a peer: a decision of the operator, who compares a fingerprint with the other operator."""

import hashlib
from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.replication import store
from identity_server.identity.replication.client import PeerClient
from identity_server.identity.replication.keys import BadKeys, read_keys
from identity_server.identity.replication.models import NATIVE, Peer
from identity_server.identity.replication.rules import Rules
from identity_server.matrix.signing import VerifyKey


class AlreadyPeer(Exception):
    """There is a peer of this name."""


def fingerprint(key: VerifyKey) -> str:
    """A public key's SHA-256, the first half, in groups that two people can read to each other."""
    digest = hashlib.sha256(key.key.encode()).hexdigest()[:32]
    return " ".join(digest[start : start + 4] for start in range(0, len(digest), 4))


async def introduce(client: PeerClient, base_url: str, expected_name: str) -> list[VerifyKey]:
    """The keys of the server at ``base_url``, newest last; nothing about them is proven but that it holds them.

    Raises ``BadKeys``, ``PeerRefused`` or ``Unreachable``.
    """
    name, keys = read_keys(await client.keys(base_url))
    if name != expected_name:
        raise BadKeys(f"the server there says that its name is {name}")
    return keys


async def add_peer(
    session: AsyncSession,
    name: str,
    base_url: str,
    keys: Sequence[VerifyKey],
    *,
    protocol: str = NATIVE,
    rules: Rules,
    expires_ts: int | None,
    now_ms: int,
) -> None:
    """Trust ``name`` from now on. Raises ``AlreadyPeer``."""
    if await store.find_peer(session, name) is not None:
        raise AlreadyPeer(f"{name} is a peer already")
    # Of a peer that was removed, and what it stated kept, its log is taken again from the beginning.
    await store.drop_statements(session, name)
    session.add(
        Peer(
            name=name,
            base_url=base_url.rstrip("/"),
            protocol=protocol,
            rules=rules.model_dump_json(),
            added_ts=now_ms,
            expires_ts=expires_ts,
            paused=False,
            sent_position=0,
            taken_position=0,
            taken_peaks=b"",
            head=None,
            alarm=None,
            failures=0,
            last_error=None,
            next_try_ts=0,
            last_contact_ts=None,
        )
    )
    await session.flush()
    await store.add_peer_keys(session, name, keys, now_ms=now_ms)
