from collections.abc import Collection, Iterable

import orjson
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.accounts.models import Account, AccountThreepid, InteractiveSession
from identity_server.homeserver.validation.proven import ProvenThreepid
from identity_server.matrix.threepid import Threepid
from identity_server.runtime.database import in_chunks, insert

# Accounts


async def add_account(session: AsyncSession, user_id: str, password_hash: str, *, now_ms: int) -> bool:
    """Whether it was added; it is not if the user ID is taken, be it in this very moment."""
    row = {"user_id": user_id, "password_hash": password_hash, "created_ts": now_ms}
    statement = insert(session, Account).values(row).on_conflict_do_nothing().returning(Account.user_id)
    return await session.scalar(statement) is not None


async def find_account(session: AsyncSession, user_id: str) -> Account | None:
    account: Account | None = await session.get(Account, user_id)
    return account


async def is_taken(session: AsyncSession, user_id: str) -> bool:
    """Whether there is or was such an account."""
    return await session.scalar(select(Account.user_id).where(Account.user_id == user_id)) is not None


async def active_users(session: AsyncSession, user_ids: Iterable[str]) -> set[str]:
    """Those of ``user_ids`` who have an account that has not been deactivated."""
    found: set[str] = set()
    for chunk in in_chunks(sorted(user_ids)):
        active = Account.user_id.in_(chunk) & Account.deactivated_ts.is_(None)
        found.update(await session.scalars(select(Account.user_id).where(active)))
    return found


async def is_active(session: AsyncSession, user_id: str) -> bool:
    """Whether there is such an account, and it has not been deactivated."""
    active = (Account.user_id == user_id) & Account.deactivated_ts.is_(None)
    return await session.scalar(select(Account.user_id).where(active)) is not None


async def password_hash(session: AsyncSession, user_id: str) -> str | None:
    hashed: str | None = await session.scalar(select(Account.password_hash).where(Account.user_id == user_id))
    return hashed


async def set_password_hash(session: AsyncSession, user_id: str, hashed: str) -> None:
    await session.execute(update(Account).where(Account.user_id == user_id).values(password_hash=hashed))


async def deactivate(session: AsyncSession, user_id: str, *, erase: bool, now_ms: int) -> None:
    """No password matches it any more, and its user ID stays taken."""
    values = {"password_hash": "", "deactivated_ts": now_ms, "erased_ts": now_ms if erase else None}
    await session.execute(update(Account).where(Account.user_id == user_id).values(values))


async def erased_users(session: AsyncSession, user_ids: Collection[str]) -> set[str]:
    """Those of ``user_ids`` who, when they went, asked to be erased."""
    found: set[str] = set()
    for chunk in in_chunks(sorted(user_ids)):
        erased = Account.user_id.in_(chunk) & Account.erased_ts.is_not(None)
        found.update(await session.scalars(select(Account.user_id).where(erased)))
    return found


# 3PIDs


async def owner_of(session: AsyncSession, threepid: Threepid) -> str | None:
    """The user ID of the account that ``threepid`` was added to."""
    this = (AccountThreepid.medium == threepid.medium) & (AccountThreepid.address == threepid.address)
    user_id: str | None = await session.scalar(select(AccountThreepid.user_id).where(this))
    return user_id


async def threepids_of(session: AsyncSession, user_id: str) -> list[AccountThreepid]:
    statement = select(AccountThreepid).where(AccountThreepid.user_id == user_id)
    return list(await session.scalars(statement.order_by(AccountThreepid.added_ts, AccountThreepid.address)))


async def add_threepid(
    session: AsyncSession, user_id: str, threepid: Threepid, *, validated_ts: int, now_ms: int
) -> bool:
    """Whether it is the user's now; it is not if it is another's."""
    row = {**threepid._asdict(), "user_id": user_id, "validated_ts": validated_ts, "added_ts": now_ms}
    await session.execute(insert(session, AccountThreepid).values(row).on_conflict_do_nothing())
    return await owner_of(session, threepid) == user_id


async def remove_threepid(session: AsyncSession, user_id: str, threepid: Threepid) -> None:
    await session.execute(
        delete(AccountThreepid).where(
            AccountThreepid.user_id == user_id,
            AccountThreepid.medium == threepid.medium,
            AccountThreepid.address == threepid.address,
        )
    )


async def remove_threepids(session: AsyncSession, user_id: str) -> None:
    await session.execute(delete(AccountThreepid).where(AccountThreepid.user_id == user_id))


# Sessions of User-Interactive Authentication

Progress = tuple[tuple[str, ...], tuple[ProvenThreepid, ...]]
"""The stages that were completed, in order, and the 3PIDs that they have proven."""


async def add_interactive_session(session: AsyncSession, session_id: str, operation: str, *, now_ms: int) -> None:
    session.add(InteractiveSession(session_id=session_id, operation=operation, completed="", created_ts=now_ms))


async def interactive_session(
    session: AsyncSession, session_id: str, *, created_after_ts: int
) -> tuple[str, Progress] | None:
    """What the session is for, and how far it is; None if there is none, or it was made before ``created_after_ts``."""
    statement = select(InteractiveSession.operation, InteractiveSession.completed, InteractiveSession.proven).where(
        InteractiveSession.session_id == session_id,
        InteractiveSession.created_ts > created_after_ts,
    )
    row = (await session.execute(statement)).one_or_none()
    return (row.operation, _progress(row.completed, row.proven)) if row else None


async def complete_stage(
    session: AsyncSession, session_id: str, stage: str, proven: ProvenThreepid | None
) -> Progress | None:
    """How far the session is with ``stage``; None if it is gone."""
    this = InteractiveSession.session_id == session_id
    row: InteractiveSession | None = await session.scalar(select(InteractiveSession).where(this).with_for_update())
    if row is None:
        return None
    if stage not in row.completed.split():
        row.completed = f"{row.completed} {stage}".strip()
        if proven:
            (medium, address), validated_ts = proven
            row.proven = orjson.dumps([*orjson.loads(row.proven), [medium, address, validated_ts]]).decode()
        await session.flush()
    return _progress(row.completed, row.proven)


def _progress(completed: str, proven: str) -> Progress:
    threepids = (ProvenThreepid(Threepid(medium, address), ts) for medium, address, ts in orjson.loads(proven))
    return tuple(completed.split()), tuple(threepids)


async def remove_interactive_session(session: AsyncSession, session_id: str) -> bool:
    """Whether it was still there."""
    this = InteractiveSession.session_id == session_id
    removed = delete(InteractiveSession).where(this).returning(InteractiveSession.session_id)
    return await session.scalar(removed) is not None


async def purge_interactive_sessions(session: AsyncSession, *, created_before_ts: int) -> None:
    await session.execute(delete(InteractiveSession).where(InteractiveSession.created_ts <= created_before_ts))
