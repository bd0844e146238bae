from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.validation.models import IdentityServerToken
from identity_server.runtime.database import insert


async def token_at(session: AsyncSession, id_server: str) -> str | None:
    this = IdentityServerToken.id_server == id_server
    token: str | None = await session.scalar(select(IdentityServerToken.token).where(this))
    return token


async def set_token(session: AsyncSession, id_server: str, token: str, *, now_ms: int) -> None:
    row = {"id_server": id_server, "token": token, "issued_ts": now_ms}
    statement = insert(session, IdentityServerToken).values(row)
    await session.execute(
        statement.on_conflict_do_update(
            index_elements=["id_server"],
            set_={"token": statement.excluded.token, "issued_ts": statement.excluded.issued_ts},
        )
    )


async def remove_token(session: AsyncSession, id_server: str, token: str) -> None:
    this = (IdentityServerToken.id_server == id_server) & (IdentityServerToken.token == token)
    await session.execute(delete(IdentityServerToken).where(this))
