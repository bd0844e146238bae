"""Telling homeservers that their users have bound addresses, and what waited for each address.

Server-Server API, PUT /3pid/onbind; Identity Service API, "Invitation storage": signed with a long-term key.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.associations.store import Bound
from identity_server.identity.invites import store
from identity_server.identity.invites.store import Claimed
from identity_server.identity.signing.keyring import Keyring
from identity_server.matrix.identifiers import domain_of
from identity_server.matrix.threepid import Threepid
from identity_server.runtime.tasks import Payload, Tasks

ONBIND = "onbind"


class Notified(Protocol):
    async def onbind(self, server_name: str, body: Any) -> None:
        """Raises if the homeserver has not taken it."""


async def claim_and_notify(
    session: AsyncSession, bindings: Sequence[Bound], *, keyring: Keyring, tasks: Tasks, now_ms: int
) -> None:
    """Claim what waits for the addresses, and leave the notices as tasks, in the transaction that binds."""
    awaited = await store.awaited(session, [bound.threepid for bound in bindings])
    notices = []
    for threepid, user_id, _ in bindings:
        claimed = await store.claim_invites(session, threepid, user_id, now_ms=now_ms) if threepid in awaited else []
        notices.append(_notice(threepid, user_id, claimed, keyring))
    await tasks.enqueue(session, ONBIND, *notices, now_ms=now_ms)


def _notice(threepid: Threepid, user_id: str, claimed: Sequence[Claimed], keyring: Keyring) -> dict[str, Any]:
    bound = {"medium": threepid.medium, "address": threepid.address, "mxid": user_id}
    invites = [
        {
            **bound,
            "room_id": invite.room_id,
            "sender": invite.sender,
            # The room knows the key that was current when the invitation was stored: that one signs as well.
            "signed": keyring.sign({"mxid": user_id, "sender": invite.sender, "token": invite.token}, invite.key_id),
        }
        for invite in claimed
    ]
    return keyring.sign({**bound, "invites": invites})


async def send_onbind(payload: Payload, *, homeservers: Notified) -> None:
    await homeservers.onbind(domain_of(payload["mxid"]), payload)
