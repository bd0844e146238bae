"""Telling a homeserver that one of its users has bound an address, and what waited for that address.

Server-Server API, PUT /3pid/onbind; Identity Service API, "Invitation storage": signed with a long-term key.
"""

from typing import Any, Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.invites import store
from identity_server.identity.signing.keyring import Keyring
from identity_server.matrix.identifiers import domain_of
from identity_server.matrix.threepid import Threepid
from identity_server.runtime.tasks import Payload, Tasks

ONBIND = "onbind"


class Notified(Protocol):
    async def onbind(self, server_name: str, body: Any) -> None:
        """Raises if the homeserver has not taken it."""


async def claim_and_notify(
    session: AsyncSession, threepid: Threepid, user_id: str, *, keyring: Keyring, tasks: Tasks, now_ms: int
) -> None:
    """Claim what waits for ``threepid``, and leave the notice as a task, in the transaction that binds."""
    claimed = await store.claim_invites(session, threepid, user_id, now_ms=now_ms)
    invites = [
        {
            "medium": threepid.medium,
            "address": threepid.address,
            "mxid": user_id,
            "room_id": invite.room_id,
            "sender": invite.sender,
            # The room knows the key that was current when the invitation was stored: that one signs as well.
            "signed": keyring.sign({"mxid": user_id, "sender": invite.sender, "token": invite.token}, invite.key_id),
        }
        for invite in claimed
    ]
    notice = {"medium": threepid.medium, "address": threepid.address, "mxid": user_id, "invites": invites}
    await tasks.enqueue(session, ONBIND, keyring.sign(notice), now_ms=now_ms)


async def send_onbind(payload: Payload, *, homeservers: Notified) -> None:
    await homeservers.onbind(domain_of(payload["mxid"]), payload)
