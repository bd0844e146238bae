from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.access.models import AccessToken, Device
from identity_server.runtime.database import insert_missing


async def ensure_device(
    session: AsyncSession, user_id: str, device_id: str, display_name: str | None, *, now_ms: int
) -> None:
    """Make the device unless it is there, and hold it until the transaction ends."""
    row = {"user_id": user_id, "device_id": device_id, "display_name": display_name, "created_ts": now_ms}
    await insert_missing(session, Device, [row])
    # Two logins on one device come one after the other, so that one token is left.
    this = (Device.user_id == user_id) & (Device.device_id == device_id)
    await session.execute(select(Device.device_id).where(this).with_for_update())


async def replace_token(session: AsyncSession, token_hash: bytes, user_id: str, device_id: str, *, now_ms: int) -> None:
    """Make this the only token of the device."""
    of_device = (AccessToken.user_id == user_id) & (AccessToken.device_id == device_id)
    await session.execute(delete(AccessToken).where(of_device))
    session.add(AccessToken(token_hash=token_hash, user_id=user_id, device_id=device_id, created_ts=now_ms))


async def token_holder(session: AsyncSession, token_hash: bytes) -> tuple[str, str] | None:
    """The user ID and device ID that the token stands for."""
    statement = select(AccessToken.user_id, AccessToken.device_id).where(AccessToken.token_hash == token_hash)
    row = (await session.execute(statement)).one_or_none()
    return (row.user_id, row.device_id) if row else None


async def remove_device(session: AsyncSession, user_id: str, device_id: str) -> None:
    """With its tokens."""
    await session.execute(delete(Device).where(Device.user_id == user_id, Device.device_id == device_id))


async def remove_devices(session: AsyncSession, user_id: str) -> None:
    await session.execute(delete(Device).where(Device.user_id == user_id))
