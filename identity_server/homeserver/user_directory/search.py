"""Finding users (Client-Server API, "User Directory"): of those whom one can meet, in rooms shared or open to all."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import orjson
from sqlalchemy import ColumnElement, Select, Table, and_, func, not_, or_, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.profiles import store as profiles
from identity_server.homeserver.profiles.models import ProfileField
from identity_server.homeserver.timeline.store import CURRENT, JOIN, MEMBERSHIPS
from identity_server.homeserver.timeline.stored import EVENTS

_FIELDS = cast(Table, ProfileField.__table__)

# Of more than these nobody would read the first ten.
_MOST_CANDIDATES = 1_000


@dataclass(frozen=True)
class Found:
    user_id: str
    display_name: str | None
    avatar_url: str | None

    @property
    def described(self) -> dict[str, str]:
        told = {"user_id": self.user_id, "display_name": self.display_name, "avatar_url": self.avatar_url}
        return {name: value for name, value in told.items() if value is not None}


async def search(
    session: AsyncSession, user_id: str, term: str, limit: int, *, server_name: str
) -> tuple[list[Found], bool]:
    """Up to ``limit`` users, the best first, and whether there were more. Of oneself one finds what anybody would."""
    words = term.casefold().split()
    if not words or limit < 1:
        return [], False
    candidates = [
        *await _ours(session, user_id, words, server_name),
        *await _others(session, user_id, words, server_name),
    ]
    found = sorted(
        (one for one in candidates if _matches(one, words)), key=lambda one: (_distance(one, words), one.user_id)
    )
    return found[:limit], len(found) > limit


async def _ours(session: AsyncSession, user_id: str, words: list[str], server_name: str) -> list[Found]:
    """Under the names that they give themselves everywhere, not those that they have in one room."""
    named = and_(_FIELDS.c.user_id == MEMBERSHIPS.c.user_id, _FIELDS.c.field == "displayname")
    statement = (
        _visible(user_id, select(MEMBERSHIPS.c.user_id).distinct())
        .outerjoin_from(MEMBERSHIPS, _FIELDS, named)
        .where(MEMBERSHIPS.c.user_id.endswith(f":{server_name}", autoescape=True))
        .where(_may_hold(words, MEMBERSHIPS.c.user_id, _FIELDS.c.value))
        .limit(_MOST_CANDIDATES)
    )
    found: list[Found] = []
    for other_id in list(await session.scalars(statement)):
        profile = await profiles.profile_of(session, other_id)
        found.append(_described(other_id, profile))
    return found


async def _others(session: AsyncSession, user_id: str, words: list[str], server_name: str) -> list[Found]:
    """As their servers told the rooms that they are in; the latest counts."""
    columns = select(MEMBERSHIPS.c.user_id, EVENTS.c.pdu)
    statement = (
        _visible(user_id, columns)
        .join_from(MEMBERSHIPS, EVENTS, EVENTS.c.event_id == MEMBERSHIPS.c.event_id)
        .where(not_(MEMBERSHIPS.c.user_id.endswith(f":{server_name}", autoescape=True)))
        .where(_may_hold(words, MEMBERSHIPS.c.user_id, EVENTS.c.pdu))
        .order_by(MEMBERSHIPS.c.position.desc())
        .limit(_MOST_CANDIDATES)
    )
    found: dict[str, Found] = {}
    for row in await session.execute(statement):
        if row.user_id not in found:
            found[row.user_id] = _described(row.user_id, orjson.loads(row.pdu).get("content"))
    return list(found.values())


def _visible(user_id: str, statement: Select[Any]) -> Select[Any]:
    """Other members of the rooms that the user is in, and all of those that anybody may join or read."""
    mine = MEMBERSHIPS.alias()
    shared = select(mine.c.room_id).where(mine.c.user_id == user_id, mine.c.membership == JOIN)
    open_to_all = or_(
        and_(CURRENT.c.type == "m.room.join_rules", EVENTS.c.pdu.contains('"join_rule":"public"', autoescape=True)),
        and_(
            CURRENT.c.type == "m.room.history_visibility",
            EVENTS.c.pdu.contains('"history_visibility":"world_readable"', autoescape=True),
        ),
    )
    public = (
        select(CURRENT.c.room_id)
        .join_from(CURRENT, EVENTS, EVENTS.c.event_id == CURRENT.c.event_id)
        .where(CURRENT.c.state_key == "", open_to_all)
        .correlate(None)
    )
    return statement.where(
        MEMBERSHIPS.c.membership == JOIN,
        or_(
            and_(MEMBERSHIPS.c.user_id != user_id, MEMBERSHIPS.c.room_id.in_(shared)),
            MEMBERSHIPS.c.room_id.in_(public),
        ),
    )


def _may_hold(words: Iterable[str], *columns: Any) -> ColumnElement[bool]:
    """Whether every word may stand in one of ``columns``; engines fold ASCII only, the rest is for ``_matches``."""
    plain = [orjson.dumps(word).decode()[1:-1] for word in words if word.isascii()]  # as they stand in JSON
    return and_(
        true(), *(or_(*(func.lower(column).contains(word, autoescape=True) for column in columns)) for word in plain)
    )


def _described(user_id: str, told: Any) -> Found:
    told = told if isinstance(told, dict) else {}
    name, avatar = told.get("displayname"), told.get("avatar_url")
    return Found(user_id, name if isinstance(name, str) else None, avatar if isinstance(avatar, str) else None)


def _matches(one: Found, words: list[str]) -> bool:
    text = f"{one.user_id} {one.display_name or ''}".casefold()
    return all(word in text for word in words)


def _distance(one: Found, words: list[str]) -> int:
    """0 for who is called so, 1 for whose name begins so, 2 for the rest."""
    term = " ".join(words)
    names = [one.user_id.casefold(), one.user_id[1:].partition(":")[0].casefold(), (one.display_name or "").casefold()]
    return 0 if term in names else 1 if any(name.startswith(term) for name in names) else 2
