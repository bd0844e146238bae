"""Whether there is anything new at all: one cheap question before the many.

Each part of /sync has a newest position, which an index knows. What has none beyond ``since`` need not be asked.
"""

from typing import Any, NamedTuple

from sqlalchemy import BindParameter, ScalarSelect, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.account_data.models import AccountData
from identity_server.homeserver.encryption.for_sync import newest_positions
from identity_server.homeserver.presence.models import Presence
from identity_server.homeserver.push.models import PushRules
from identity_server.homeserver.receipts.models import Receipt
from identity_server.homeserver.streams import StreamPosition
from identity_server.homeserver.timeline.models import HistoryGap, Membership, StateChange, StoredEventRow


class Newest(NamedTuple):
    """``position``: of the whole stream; then that of the user's memberships, account data, push rules and receipts,
    of the device's messages, and of everybody's events, states, gaps, receipts, presence and device lists. 0 for none.
    """

    position: int
    memberships: int
    account_data: int
    push_rules: int
    own_receipts: int
    to_device: int
    events: int
    states: int
    gaps: int
    receipts: int
    presence: int
    device_lists: int


def _of(table: Any, **owner: Any) -> ScalarSelect[int | None]:
    return select(func.max(table.position)).filter_by(**owner).scalar_subquery()


_USER: BindParameter[str] = bindparam("user_id")
_DEVICE: BindParameter[str] = bindparam("device_id")
_TO_DEVICE, _DEVICE_LISTS = newest_positions(_USER, _DEVICE)
# Every /sync begins with this: made once.
_NEWEST = select(
    _of(StreamPosition),
    _of(Membership, user_id=_USER),
    _of(AccountData, user_id=_USER),
    _of(PushRules, user_id=_USER),
    _of(Receipt, user_id=_USER),
    _TO_DEVICE,
    _of(StoredEventRow),
    _of(StateChange),
    _of(HistoryGap),
    _of(Receipt),
    _of(Presence),
    _DEVICE_LISTS,
)


async def newest(session: AsyncSession, user_id: str, device_id: str) -> Newest:
    row = (await session.execute(_NEWEST, {"user_id": user_id, "device_id": device_id})).one()
    return Newest(*(position or 0 for position in row))
