from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, select, text, tuple_, update
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.validation.models import ValidationSession, ValidationToken
from identity_server.identity.validation.sessions import Session
from identity_server.matrix.threepid import Threepid
from identity_server.runtime.bulk import insert_rows
from identity_server.runtime.database import insert

# Long after it expired a session is still known as expired; then its row goes.
_REMEMBERED_MS = 7 * 86_400_000
# Written as in the index's own condition, or SQLite does not see that it may use it.
_LIVE = text("NOT superseded")


async def live_session(session: AsyncSession, threepid: Threepid, client_secret: str) -> Session | None:
    """The one that is not superseded, locked until the transaction ends."""
    row = await session.scalar(
        select(ValidationSession)
        .where(
            ValidationSession.medium == threepid.medium,
            ValidationSession.address == threepid.address,
            ValidationSession.client_secret == client_secret,
            _LIVE,
        )
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    return _session(row) if row else None


async def find_session(
    session: AsyncSession, sid: str, client_secret: str, *, for_update: bool = False
) -> Session | None:
    statement = select(ValidationSession).where(
        ValidationSession.sid == sid, ValidationSession.client_secret == client_secret
    )
    row = await session.scalar(statement.with_for_update() if for_update else statement)
    return _session(row) if row else None


async def find_sessions(session: AsyncSession, named: Sequence[tuple[str, str]]) -> dict[tuple[str, str], Session]:
    """Those of the sessions ``named`` by ``(sid, client_secret)`` that there are."""
    sids = {sid for sid, _ in named}
    rows = await session.scalars(select(ValidationSession).where(ValidationSession.sid.in_(sids)))
    found = {(row.sid, row.client_secret): _session(row) for row in rows}
    return {key: found[key] for key in named if key in found}


async def live_names(session: AsyncSession, named: Sequence[tuple[Threepid, str]]) -> set[tuple[Threepid, str]]:
    """Those of ``named``, addresses with client secrets, that have a session that is not superseded."""
    row = ValidationSession
    of = tuple_(row.medium, row.address, row.client_secret)
    rows = await session.execute(
        select(row.medium, row.address, row.client_secret).where(
            of.in_([(*threepid, secret) for threepid, secret in named]), _LIVE
        )
    )
    return {(Threepid(medium, address), secret) for medium, address, secret in rows}


async def add_sessions(session: AsyncSession, new: Sequence[Session]) -> set[str]:
    """The ``sid`` of each that was added; others have just begun a session for the same address and secret."""
    if not new:
        return set()
    rows = [{"sid": each.sid, **_columns(each), "superseded": False} for each in new]
    added = insert(session, ValidationSession).on_conflict_do_nothing().returning(ValidationSession.sid)
    return set(await session.scalars(added, rows))


async def save_session(session: AsyncSession, changed: Session) -> None:
    await session.execute(
        update(ValidationSession).where(ValidationSession.sid == changed.sid).values(**_columns(changed))
    )


async def supersede(session: AsyncSession, sid: str) -> None:
    await session.execute(update(ValidationSession).where(ValidationSession.sid == sid).values(superseded=True))


async def add_tokens(session: AsyncSession, sent: Sequence[tuple[str, bytes]]) -> None:
    """``sent``: ``(sid, token's hash)``."""
    columns = ("sid", "token_hash")
    await insert_rows(session, ValidationToken, columns, sent, on_conflict="ON CONFLICT DO NOTHING")


async def sent_tokens(session: AsyncSession, sid: str) -> list[bytes]:
    return list(await session.scalars(select(ValidationToken.token_hash).where(ValidationToken.sid == sid)))


async def remove_token(session: AsyncSession, sid: str, token_hash: bytes) -> None:
    await session.execute(
        delete(ValidationToken).where(ValidationToken.sid == sid, ValidationToken.token_hash == token_hash)
    )


async def purge_sessions(session: AsyncSession, *, lifetime_ms: int, now_ms: int) -> None:
    is_old = ValidationSession.modified_ts < now_ms - lifetime_ms - _REMEMBERED_MS
    old = select(ValidationSession.sid).where(is_old)
    of_old = delete(ValidationToken).where(ValidationToken.sid.in_(old))
    # Nothing here is in the session's memory, to which SQLAlchemy would else have every deleted row returned.
    await session.execute(of_old, execution_options={"synchronize_session": False})
    await session.execute(delete(ValidationSession).where(is_old))


def _columns(of: Session) -> dict[str, Any]:
    return {
        "medium": of.threepid.medium,
        "address": of.threepid.address,
        "spelling": of.spelling,
        "client_secret": of.client_secret,
        "send_attempt": of.send_attempt,
        "next_link": of.next_link,
        "modified_ts": of.modified_ts,
        "validated_ts": of.validated_ts,
        "wrong_tokens": of.wrong_tokens,
    }


def _session(row: ValidationSession) -> Session:
    return Session(
        sid=row.sid,
        threepid=Threepid(row.medium, row.address),
        spelling=row.spelling,
        client_secret=row.client_secret,
        send_attempt=row.send_attempt,
        next_link=row.next_link,
        modified_ts=row.modified_ts,
        validated_ts=row.validated_ts,
        wrong_tokens=row.wrong_tokens,
    )
