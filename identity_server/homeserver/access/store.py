from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.access.models import AccessToken, Device, RefreshToken
from identity_server.runtime.database import in_chunks, insert
from identity_server.runtime.fast_reads import FastReads


class TokenHolder(NamedTuple):
    user_id: str
    device_id: str
    expires_ts: int | None
    unused: bool


# Devices


async def ensure_device(
    session: AsyncSession, user_id: str, device_id: str, display_name: str | None, *, now_ms: int
) -> bool:
    """Make the device unless it is there, and hold it until the transaction ends. Whether it is new."""
    row = {"user_id": user_id, "device_id": device_id, "display_name": display_name, "created_ts": now_ms}
    statement = insert(session, Device).values(row).on_conflict_do_nothing().returning(Device.device_id)
    is_new = await session.scalar(statement) is not None
    # Two logins on one device come one after the other, so that one token is left.
    this = (Device.user_id == user_id) & (Device.device_id == device_id)
    await session.execute(select(Device.device_id).where(this).with_for_update())
    return is_new


async def devices_of(session: AsyncSession, user_id: str) -> list[Device]:
    statement = select(Device).where(Device.user_id == user_id).order_by(Device.created_ts, Device.device_id)
    return list(await session.scalars(statement))


async def find_device(session: AsyncSession, user_id: str, device_id: str) -> Device | None:
    device: Device | None = await session.get(Device, (user_id, device_id))
    return device


async def devices_of_users(session: AsyncSession, user_ids: Iterable[str]) -> dict[tuple[str, str], str | None]:
    """The display names of all their devices, by user and device ID."""
    found: dict[tuple[str, str], str | None] = {}
    for chunk in in_chunks(sorted(user_ids)):
        statement = select(Device.user_id, Device.device_id, Device.display_name).where(Device.user_id.in_(chunk))
        found.update({(row.user_id, row.device_id): row.display_name for row in await session.execute(statement)})
    return found


async def set_display_name(session: AsyncSession, user_id: str, device_id: str, display_name: str) -> None:
    this = (Device.user_id == user_id) & (Device.device_id == device_id)
    await session.execute(update(Device).where(this).values(display_name=display_name))


async def set_last_seen(session: AsyncSession, seen: Mapping[tuple[str, str], tuple[int, str]]) -> None:
    """``seen``: by user ID and device ID, when it was and from which address."""
    for (user_id, device_id), (seen_ts, ip) in sorted(seen.items()):
        this = (Device.user_id == user_id) & (Device.device_id == device_id)
        await session.execute(update(Device).where(this).values(last_seen_ts=seen_ts, last_seen_ip=ip))


async def remove_devices(session: AsyncSession, user_id: str, device_ids: Collection[str]) -> None:
    """With their tokens."""
    await session.execute(delete(Device).where(Device.user_id == user_id, Device.device_id.in_(device_ids)))


# Tokens


async def add_token(
    session: AsyncSession,
    token_hash: bytes,
    user_id: str,
    device_id: str,
    *,
    now_ms: int,
    expires_ts: int | None,
    came_with: bytes | None,
    unused: bool,
) -> None:
    session.add(AccessToken(token_hash, user_id, device_id, now_ms, expires_ts, came_with, unused))
    await session.flush()


async def remove_tokens(session: AsyncSession, user_id: str, device_id: str) -> None:
    """All that the device has."""
    for table in (AccessToken, RefreshToken):
        await session.execute(delete(table).where(table.user_id == user_id, table.device_id == device_id))


async def token_holder(reads: FastReads, token_hash: bytes) -> TokenHolder | None:
    """Whom the token stands for, be it expired or not. Every request pays for this."""
    # One value, with what may hold spaces at its end.
    told: str | None = await reads.value(
        "SELECT user_id || ' ' || COALESCE(CAST(expires_ts AS TEXT), '') || ' ' ||"
        " CASE WHEN unused THEN '1' ELSE '' END || ' ' || device_id FROM access_tokens WHERE token_hash = $1",
        token_hash,
    )
    if told is None:
        return None
    user_id, expires_ts, unused, device_id = told.split(" ", 3)
    return TokenHolder(user_id, device_id, int(expires_ts) if expires_ts else None, bool(unused))


async def first_use(session: AsyncSession, token_hash: bytes) -> None:
    """Of an access token that came of a refresh: revokes what was refreshed."""
    this = AccessToken.token_hash == token_hash
    came_with: bytes | None = await session.scalar(select(AccessToken.came_with).where(this))
    if came_with is not None:
        await revoke_before(session, came_with)
    await session.execute(update(AccessToken).where(this).values(unused=False))


async def add_refresh_token(
    session: AsyncSession, token_hash: bytes, user_id: str, device_id: str, *, now_ms: int
) -> None:
    session.add(RefreshToken(token_hash, user_id, device_id, now_ms))
    await session.flush()


async def refresh_token(session: AsyncSession, token_hash: bytes) -> RefreshToken | None:
    """Held until the transaction ends."""
    statement = select(RefreshToken).where(RefreshToken.token_hash == token_hash).with_for_update()
    token: RefreshToken | None = await session.scalar(statement)
    return token


async def set_replaced(session: AsyncSession, token_hash: bytes, replaced_by: bytes) -> None:
    this = RefreshToken.token_hash == token_hash
    await session.execute(update(RefreshToken).where(this).values(replaced_by=replaced_by))


async def revoke(session: AsyncSession, refresh_token_hash: bytes) -> None:
    """The refresh token, and the access token that came with it."""
    await session.execute(delete(AccessToken).where(AccessToken.came_with == refresh_token_hash))
    await session.execute(delete(RefreshToken).where(RefreshToken.token_hash == refresh_token_hash))


async def revoke_before(session: AsyncSession, refresh_token_hash: bytes) -> None:
    """Whatever was exchanged for this refresh token."""
    exchanged = select(RefreshToken.token_hash).where(RefreshToken.replaced_by == refresh_token_hash)
    for older in list(await session.scalars(exchanged)):
        await revoke(session, older)
