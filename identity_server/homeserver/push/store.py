"""Push rules as they are kept."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import orjson
from sqlalchemy import Table, delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.push.models import PushedPosition, PushRules
from identity_server.homeserver.push.ruleset import Customised, ruleset
from identity_server.homeserver.streams import Streams, advance
from identity_server.runtime.database import insert

_TABLE = cast(Table, PushRules.__table__)
_ONLY_ROW = 1


class Kept(NamedTuple):
    """``position``: when they were last changed; 0 for never."""

    customised: Customised
    position: int


async def rules_of(session: AsyncSession, user_id: str) -> Kept:
    statement = select(_TABLE.c.rules, _TABLE.c.position).where(_TABLE.c.user_id == user_id)
    row = (await session.execute(statement)).one_or_none()
    return Kept(Customised(**orjson.loads(row.rules)), row.position) if row else Kept(Customised(), 0)


async def rules_position(session: AsyncSession, user_id: str) -> int:
    position: int | None = await session.scalar(select(_TABLE.c.position).where(_TABLE.c.user_id == user_id))
    return position or 0


async def change_rules(
    session: AsyncSession, streams: Streams, user_id: str, change: Callable[[Customised], Customised]
) -> None:
    """Write what ``change`` makes of them; nothing gets lost that others write meanwhile. Call it last."""
    position = await advance(session, streams, user_id)  # others wait here
    changed = change((await rules_of(session, user_id)).customised)
    values = {"rules": orjson.dumps(changed.as_json()).decode(), "position": position}
    await session.execute(
        insert(session, PushRules)
        .values(user_id=user_id, **values)
        .on_conflict_do_update(index_elements=["user_id"], set_=values)
    )


async def push_rules_content(session: AsyncSession, user_id: str) -> dict[str, Any]:
    """The content of ``m.push_rules``."""
    return {"global": ruleset((await rules_of(session, user_id)).customised, user_id)}


async def erase(session: AsyncSession, user_id: str) -> None:
    await session.execute(delete(_TABLE).where(_TABLE.c.user_id == user_id))


async def pushed_position(session: AsyncSession) -> int:
    """Up to where every event has been looked at for push."""
    return await session.scalar(select(PushedPosition.position)) or 0


async def set_pushed_position(session: AsyncSession, position: int) -> None:
    await session.execute(
        insert(session, PushedPosition)
        .values(row=_ONLY_ROW, position=position)
        .on_conflict_do_update(index_elements=["row"], set_={"position": position})
    )
