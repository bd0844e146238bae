"""Who is typing and who has read what, in the rooms that the user is in."""

from typing import Any

from identity_server.homeserver.receipts import store as receipts
from identity_server.homeserver.receipts.store import RECEIPT, Given
from identity_server.homeserver.sync.looking import Look
from identity_server.homeserver.typing.notify import TYPING

_FEW = 200

Events = dict[str, list[dict[str, Any]]]
"""By room."""


async def receipt_events(look: Look) -> Events:
    session, request, upto = look.session, look.request, look.upto
    if not request.wanted.ephemeral.admits_type(RECEIPT):
        return {}
    given: list[Given] = []
    known = look.rooms.joined.keys() - look.anew
    if known and look.newest.receipts > look.since:
        given = await receipts.given_since(session, look.since, upto, viewer=request.user_id, limit=_FEW + 1)
        if len(given) > _FEW:
            given = await receipts.given_in(session, known, upto, viewer=request.user_id, since=look.since)
        given = [receipt for receipt in given if receipt.room_id in known]
    if look.anew and look.newest.receipts:
        given += await receipts.given_in(session, look.anew, upto, viewer=request.user_id)
    by_room: dict[str, list[Given]] = {}
    for receipt in given:
        if receipt.user_id not in look.ignored and request.wanted.ephemeral.admits_room(receipt.room_id):
            by_room.setdefault(receipt.room_id, []).append(receipt)
    return {room_id: receipts.as_events(of_room) for room_id, of_room in by_room.items()}


def typing_events(look: Look) -> Events:
    typing, wanted = look.parts.typing, look.request.wanted.ephemeral
    if not wanted.admits_type(TYPING):
        return {}
    changed = set[str]()
    if look.request.since is not None:
        changed |= set(typing.changed_since(look.request.since.typing, look.rooms.joined))
    changed |= look.anew.intersection(typing.rooms())
    return {room_id: [_typing_event(look, room_id)] for room_id in changed if wanted.admits_room(room_id)}


def _typing_event(look: Look, room_id: str) -> dict[str, Any]:
    users = [user_id for user_id in look.parts.typing.users_in(room_id) if user_id not in look.ignored]
    return {"type": TYPING, "content": {"user_ids": users}}
