from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from sqlalchemy import ScalarSelect, delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.encryption.models import ReceivedToDevice, ToDeviceMessage, ToDeviceTransaction
from identity_server.runtime.database import in_chunks, insert


async def begin_transaction(
    session: AsyncSession, user_id: str, device_id: str, event_type: str, txn_id: str, *, now_ms: int
) -> bool:
    """False if this request has been served before ("Transaction identifiers")."""
    row = {"user_id": user_id, "device_id": device_id, "type": event_type, "txn_id": txn_id, "sent_ts": now_ms}
    statement = insert(session, ToDeviceTransaction).values(row).on_conflict_do_nothing()
    return await session.scalar(statement.returning(ToDeviceTransaction.txn_id)) is not None


async def purge_transactions(session: AsyncSession, *, sent_before_ts: int) -> None:
    await session.execute(delete(ToDeviceTransaction).where(ToDeviceTransaction.sent_ts <= sent_before_ts))


async def begin_receiving(session: AsyncSession, origin: str, message_id: str, *, now_ms: int) -> bool:
    """False if this message of another server has been delivered before."""
    row = {"origin": origin, "message_id": message_id, "received_ts": now_ms}
    statement = insert(session, ReceivedToDevice).values(row).on_conflict_do_nothing()
    return await session.scalar(statement.returning(ReceivedToDevice.message_id)) is not None


async def purge_received(session: AsyncSession, *, received_before_ts: int) -> None:
    await session.execute(delete(ReceivedToDevice).where(ReceivedToDevice.received_ts <= received_before_ts))


async def add_messages(
    session: AsyncSession, sender: str, event_type: str, contents: Mapping[tuple[str, str], str], *, position: int
) -> None:
    """``contents``: JSON by user and device ID."""
    rows = [
        {
            "user_id": user_id,
            "device_id": device_id,
            "position": position,
            "sender": sender,
            "type": event_type,
            "content": content,
        }
        for (user_id, device_id), content in contents.items()
    ]
    for chunk in in_chunks(rows):
        await session.execute(insert(session, ToDeviceMessage), list(chunk))


async def messages(
    session: AsyncSession, user_id: str, device_id: str, since: int, upto: int, limit: int
) -> list[tuple[int, dict[str, Any]]]:
    """Positions and events of what waits for the device at ``since`` < position <= ``upto``, oldest first."""
    statement = (
        select(ToDeviceMessage.position, ToDeviceMessage.type, ToDeviceMessage.sender, ToDeviceMessage.content)
        .where(ToDeviceMessage.user_id == user_id, ToDeviceMessage.device_id == device_id)
        .where(ToDeviceMessage.position > since, ToDeviceMessage.position <= upto)
        .order_by(ToDeviceMessage.position)
        .limit(limit)
    )
    return [
        (row.position, {"type": row.type, "sender": row.sender, "content": orjson.loads(row.content)})
        for row in await session.execute(statement)
    ]


async def forget_messages(session: AsyncSession, user_id: str, device_id: str, upto: int) -> None:
    """Those at positions up to ``upto``."""
    await session.execute(
        delete(ToDeviceMessage)
        .where(ToDeviceMessage.user_id == user_id, ToDeviceMessage.device_id == device_id)
        .where(ToDeviceMessage.position <= upto)
    )


async def forget_devices(session: AsyncSession, user_id: str, device_ids: Iterable[str]) -> None:
    devices = list(device_ids)
    for table in (ToDeviceMessage, ToDeviceTransaction):
        await session.execute(delete(table).where(table.user_id == user_id, table.device_id.in_(devices)))


def newest_position(user_id: Any, device_id: Any) -> ScalarSelect[Any]:
    """Of what waits for the device, as a part of another question."""
    this = (ToDeviceMessage.user_id == user_id) & (ToDeviceMessage.device_id == device_id)
    return select(func.max(ToDeviceMessage.position)).where(this).scalar_subquery()
