from collections.abc import Iterable

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.accounts.models import Account, InteractiveSession
from identity_server.runtime.database import insert


async def add_account(session: AsyncSession, user_id: str, password_hash: str, *, now_ms: int) -> bool:
    """Whether it was added; it is not if the user ID is taken, be it in this very moment."""
    row = {"user_id": user_id, "password_hash": password_hash, "created_ts": now_ms}
    statement = insert(session, Account).values(row).on_conflict_do_nothing().returning(Account.user_id)
    return await session.scalar(statement) is not None


async def is_taken(session: AsyncSession, user_id: str) -> bool:
    return await session.scalar(select(Account.user_id).where(Account.user_id == user_id)) is not None


async def password_hash(session: AsyncSession, user_id: str) -> str | None:
    hashed: str | None = await session.scalar(select(Account.password_hash).where(Account.user_id == user_id))
    return hashed


async def set_password_hash(session: AsyncSession, user_id: str, hashed: str) -> None:
    await session.execute(update(Account).where(Account.user_id == user_id).values(password_hash=hashed))


async def add_interactive_session(session: AsyncSession, session_id: str, operation: str, *, now_ms: int) -> None:
    session.add(InteractiveSession(session_id=session_id, operation=operation, completed="", created_ts=now_ms))


async def completed_stages(
    session: AsyncSession, session_id: str, operation: str, *, created_after_ts: int
) -> set[str] | None:
    """None if there is no such session, or it was made for something else, or before ``created_after_ts``."""
    statement = select(InteractiveSession.completed).where(
        InteractiveSession.session_id == session_id,
        InteractiveSession.operation == operation,
        InteractiveSession.created_ts > created_after_ts,
    )
    completed = await session.scalar(statement.with_for_update())
    return None if completed is None else set(completed.split())


async def set_completed_stages(session: AsyncSession, session_id: str, stages: Iterable[str]) -> None:
    this = InteractiveSession.session_id == session_id
    await session.execute(update(InteractiveSession).where(this).values(completed=" ".join(sorted(stages))))


async def remove_interactive_session(session: AsyncSession, session_id: str) -> None:
    await session.execute(delete(InteractiveSession).where(InteractiveSession.session_id == session_id))


async def purge_interactive_sessions(session: AsyncSession, *, created_before_ts: int) -> None:
    await session.execute(delete(InteractiveSession).where(InteractiveSession.created_ts <= created_before_ts))
