"""What an identity server tells when a user of ours has bound an address (Server-Server API, "Third-party invites").

Nothing says who tells it. So no more is believed than that the invitations are worth trying: what proves one is its
signature, which is checked against the room when the invitation is taken up.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.accounts import store as accounts
from identity_server.homeserver.threepids import store
from identity_server.homeserver.threepids.take_up import TAKE_UP
from identity_server.matrix.canonical_json import NotCanonical, canonical_json
from identity_server.matrix.errors import BadJson, Forbidden
from identity_server.matrix.identifiers import domain_of
from identity_server.matrix.threepid import Threepid
from identity_server.runtime.tasks import Tasks

# By then the first try is over.
_AGAIN_AFTER_MS = 10_000


class Invite(NamedTuple):
    """``signed``: ``mxid``, ``token`` and ``signatures``, as the identity server signed them."""

    room_id: str
    sender: str
    signed: Mapping[str, Any]


async def keep_notice(
    session: AsyncSession,
    user_id: str,
    threepid: Threepid,
    invites: Iterable[Invite],
    *,
    server_name: str,
    tasks: Tasks,
    now_ms: int,
) -> list[bytes]:
    """Remember the binding and its invitations; the digests of those that are new, which are to be taken up.

    What is told again is kept once; what is told differently is kept beside it, since either may be true. Raises
    ``Forbidden`` if the user is not ours, and ``BadJson``.
    """
    if domain_of(user_id) != server_name or not await accounts.is_active(session, user_id):
        raise Forbidden("The user is not a user of this homeserver")
    whose = {"user_id": user_id, "medium": threepid.medium, "address": threepid.address}
    await store.add_bindings(session, [{**whose, "told_ts": now_ms}])
    new: list[bytes] = []
    for row in [_row(whose, invite) for invite in invites]:
        if await store.add_pending_invite(session, {**row, "told_ts": now_ms}):
            await tasks.enqueue(session, TAKE_UP, {"digest": row["digest"].hex()}, now_ms=now_ms + _AGAIN_AFTER_MS)
            new.append(row["digest"])
    return new


def _row(whose: Mapping[str, str], invite: Invite) -> dict[str, Any]:
    told = {**whose, "room_id": invite.room_id, "sender": invite.sender, "signed": invite.signed}
    try:
        digest = hashlib.sha256(canonical_json(told)).digest()
    except NotCanonical as error:
        raise BadJson(f"An invite is not canonical JSON: {error}") from error
    return {**told, "digest": digest, "signed": canonical_json(invite.signed).decode()}
