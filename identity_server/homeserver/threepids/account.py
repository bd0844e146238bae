"""Addresses of an account (Client-Server API, "Adding Account Administrative Contact Information")."""

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.accounts import store as accounts
from identity_server.homeserver.validation.proven import ProvenThreepid
from identity_server.matrix.errors import ThreepidInUse


async def threepids_of(session: AsyncSession, user_id: str) -> list[dict[str, Any]]:
    return [
        {
            "medium": row.medium,
            "address": row.address,
            "validated_at": row.validated_ts,
            "added_at": row.added_ts,
        }
        for row in await accounts.threepids_of(session, user_id)
    ]


async def add_threepid(session: AsyncSession, user_id: str, proven: ProvenThreepid, *, now_ms: int) -> None:
    """Raises ``ThreepidInUse`` if it is another account's."""
    threepid, validated_ts = proven
    if not await accounts.add_threepid(session, user_id, threepid, validated_ts=validated_ts, now_ms=now_ms):
        raise ThreepidInUse("The address belongs to another account")
