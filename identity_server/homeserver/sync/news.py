"""Whether there is anything new at all: one cheap question before the many.

Each part of /sync has a newest position, which an index knows. What has none beyond ``since`` need not be asked.
"""

from typing import NamedTuple

from sqlalchemy import ScalarSelect, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.account_data.models import AccountData
from identity_server.homeserver.encryption.for_sync import newest_positions
from identity_server.homeserver.presence.models import Presence
from identity_server.homeserver.push.models import PushRules
from identity_server.homeserver.receipts.models import Receipt
from identity_server.homeserver.streams import StreamPosition
from identity_server.homeserver.timeline.models import Membership, StateChange, StoredEventRow


class Newest(NamedTuple):
    """``position``: of the whole stream; then that of the user's memberships, account data, push rules, of the
    device's messages, and of everybody's events, states, receipts, presence and device lists. 0 for none."""

    position: int
    memberships: int
    account_data: int
    push_rules: int
    to_device: int
    events: int
    states: int
    receipts: int
    presence: int
    device_lists: int


async def newest(session: AsyncSession, user_id: str, device_id: str) -> Newest:
    to_device, device_lists = newest_positions(user_id, device_id)
    statement = select(
        select(StreamPosition.position).scalar_subquery(),
        _of_user(Membership, user_id),
        _of_user(AccountData, user_id),
        _of_user(PushRules, user_id),
        to_device,
        _of_all(StoredEventRow),
        _of_all(StateChange),
        _of_all(Receipt),
        _of_all(Presence),
        device_lists,
    )
    row = (await session.execute(statement)).one()
    return Newest(*(position or 0 for position in row))


def _of_user(table: type[Membership] | type[AccountData] | type[PushRules], user_id: str) -> ScalarSelect[int | None]:
    return select(func.max(table.position)).where(table.user_id == user_id).scalar_subquery()


def _of_all(
    table: type[StoredEventRow] | type[StateChange] | type[Receipt] | type[Presence],
) -> ScalarSelect[int | None]:
    return select(func.max(table.position)).scalar_subquery()
