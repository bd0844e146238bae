"""Signing that somebody accepts an invitation, for clients that cannot sign (Identity Service API, "Ephemeral
invitation signing")."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.invites import store
from identity_server.matrix.errors import Forbidden, InvalidParam, Unrecognized
from identity_server.matrix.signing import SigningKey, decode_key, sign_json


async def sign_acceptance(
    session: AsyncSession,
    server_name: str,
    *,
    user_id: str,
    token: str,
    private_key: str,
    must_match: bool,
    now_ms: int,
) -> dict[str, Any]:
    """``{mxid, sender, token}`` signed with ``private_key``.

    ``must_match``: the key must be the invitation's own, because holding it is all that the caller shows.
    Raises ``Unrecognized`` for an unknown token, ``InvalidParam`` for what is no key.
    """
    invite = await store.find_invite(session, token)
    if invite is None or invite.revoked_ts is not None or (invite.claimed_ts is None and invite.expires_ts <= now_ms):
        raise Unrecognized("Didn't recognize token")
    try:
        key = SigningKey.from_seed("ed25519:0", decode_key(private_key))
    except ValueError as error:
        raise InvalidParam("private_key is not a key") from error
    if must_match and key.verify_key.base64 != invite.public_key:
        raise Forbidden("This is not the invitation's key")
    return sign_json({"mxid": user_id, "sender": invite.sender, "token": token}, server_name, key)
