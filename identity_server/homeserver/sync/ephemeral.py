"""Who is typing and who has read what, in the rooms that the user is in."""

from collections.abc import Collection
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.receipts import store as receipts
from identity_server.homeserver.receipts.store import RECEIPT, Given
from identity_server.homeserver.sync.news import Newest
from identity_server.homeserver.sync.request import SyncRequest
from identity_server.homeserver.typing.notify import TYPING
from identity_server.homeserver.typing.typing import Typing

_FEW = 200

Events = dict[str, list[dict[str, Any]]]
"""By room."""


async def receipt_events(
    session: AsyncSession,
    request: SyncRequest,
    newest: Newest,
    rooms: Collection[str],
    anew: Collection[str],
    ignored: frozenset[str],
) -> Events:
    """``anew``: those of ``rooms`` of which the client is to be told everything."""
    if not request.wanted.ephemeral.admits_type(RECEIPT):
        return {}
    given: list[Given] = []
    known = set(rooms) - set(anew)
    if known and newest.receipts > request.told:
        given = await receipts.given_since(
            session, request.told, newest.position, viewer=request.user_id, limit=_FEW + 1
        )
        if len(given) > _FEW:
            given = await receipts.given_in(session, known, newest.position, viewer=request.user_id, since=request.told)
        given = [receipt for receipt in given if receipt.room_id in known]
    if anew and newest.receipts:
        given += await receipts.given_in(session, anew, newest.position, viewer=request.user_id)
    by_room: dict[str, list[Given]] = {}
    for receipt in given:
        if receipt.user_id not in ignored and request.wanted.ephemeral.admits_room(receipt.room_id):
            by_room.setdefault(receipt.room_id, []).append(receipt)
    return {room_id: receipts.as_events(of_room) for room_id, of_room in by_room.items()}


def typing_events(
    typing: Typing, request: SyncRequest, rooms: Collection[str], anew: Collection[str], ignored: frozenset[str]
) -> Events:
    wanted = request.wanted.ephemeral
    if not wanted.admits_type(TYPING):
        return {}
    changed = set(typing.changed_since(request.since.typing, rooms)) if request.since else set[str]()
    changed |= set(typing.rooms()).intersection(anew)
    return {
        room_id: [
            {
                "type": TYPING,
                "content": {"user_ids": [user for user in typing.users_in(room_id) if user not in ignored]},
            }
        ]
        for room_id in changed
        if wanted.admits_room(room_id)
    }
