from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import and_, delete, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.invites.models import Invite
from identity_server.matrix.threepid import Threepid

# A claimed invitation's key is asked about when the invitee's homeserver acts on it, which may be long after.
_CLAIMED_REMEMBERED_MS = 365 * 86_400_000


_PENDING = and_(Invite.claimed_ts.is_(None), Invite.revoked_ts.is_(None))


class Claimed(NamedTuple):
    token: str
    room_id: str
    sender: str
    key_id: str


def add_invite(session: AsyncSession, invite: Invite) -> None:
    session.add(invite)


async def awaited(session: AsyncSession, threepids: Sequence[Threepid]) -> set[Threepid]:
    """Those of ``threepids`` for which something waits; it may have expired."""
    of = tuple_(Invite.medium, Invite.address)
    rows = await session.execute(select(Invite.medium, Invite.address).where(of.in_(threepids), _PENDING).distinct())
    return {Threepid(medium, address) for medium, address in rows}


async def claim_invites(session: AsyncSession, threepid: Threepid, user_id: str, *, now_ms: int) -> list[Claimed]:
    """Hand everything that waits for ``threepid`` to ``user_id``, once and for all."""
    rows = await session.execute(
        update(Invite)
        .where(Invite.medium == threepid.medium, Invite.address == threepid.address)
        .where(_PENDING, Invite.expires_ts > now_ms)
        .values(claimed_ts=now_ms, claimed_by=user_id)
        .returning(Invite.token, Invite.room_id, Invite.sender, Invite.key_id)
    )
    return sorted(Claimed(*row) for row in rows)


async def find_invite(session: AsyncSession, token: str) -> Invite | None:
    return await session.get(Invite, token)


async def is_key_valid(session: AsyncSession, public_key: str, *, now_ms: int) -> bool:
    """Whether ``public_key``, written exactly so, was given out for an invitation that still counts."""
    counts = or_(Invite.claimed_ts.is_not(None), Invite.expires_ts > now_ms)
    statement = select(Invite.token).where(Invite.public_key == public_key, Invite.revoked_ts.is_(None), counts)
    return await session.scalar(statement) is not None


async def revoke_invite(session: AsyncSession, token: str, sender: str, *, now_ms: int) -> bool:
    """False if ``sender`` has no such invitation pending."""
    rows = await session.execute(
        update(Invite)
        .where(Invite.token == token, Invite.sender == sender)
        .where(_PENDING)
        .values(revoked_ts=now_ms)
        .returning(Invite.token)
    )
    return rows.first() is not None


async def purge_invites(session: AsyncSession, *, now_ms: int) -> None:
    # One after the other: each has its index, and all of them together none.
    for over in (Invite.expires_ts <= now_ms, Invite.revoked_ts <= now_ms):
        await session.execute(delete(Invite).where(Invite.claimed_ts.is_(None), over))
    await session.execute(delete(Invite).where(Invite.claimed_ts < now_ms - _CLAIMED_REMEMBERED_MS))
