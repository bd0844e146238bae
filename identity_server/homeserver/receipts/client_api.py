"""How far one has read (Client-Server API, "Receipts" and "Read and unread markers")."""

from typing import Annotated, Any

from fastapi import APIRouter, Path
from pydantic import Field

from identity_server.homeserver.access.current import CurrentUser
from identity_server.homeserver.receipts.give import FULLY_READ, TYPES, give_receipt
from identity_server.homeserver.streams import OpenStreams
from identity_server.matrix.errors import InvalidParam
from identity_server.matrix.identifiers import RoomID, Text
from identity_server.runtime.dependencies import Now, Transaction
from identity_server.runtime.requests import Body, JsonOrNothingRoute

router = APIRouter(prefix="/rooms/{room_id}", tags=["receipts"], route_class=JsonOrNothingRoute)

ThreadID = Annotated[Text, Field(min_length=1, max_length=255)]
EventID = Annotated[Text, Field(pattern=r"^\$", max_length=255)]


class ReceiptBody(Body):
    thread_id: ThreadID | None = None


class Markers(Body):
    fully_read: EventID | None = Field(None, alias="m.fully_read")
    read: EventID | None = Field(None, alias="m.read")
    read_private: EventID | None = Field(None, alias="m.read.private")

    def by_type(self) -> dict[str, str]:
        markers = dict(
            zip(("m.read", "m.read.private", FULLY_READ), (self.read, self.read_private, self.fully_read), strict=True)
        )
        return {receipt_type: event_id for receipt_type, event_id in markers.items() if event_id is not None}


@router.post("/receipt/{receipt_type}/{event_id}")
async def post_receipt(
    room_id: RoomID,
    receipt_type: Text,
    event_id: Annotated[EventID, Path()],
    body: ReceiptBody,
    user: CurrentUser,
    session: Transaction,
    streams: OpenStreams,
    now_ms: Now,
) -> dict[str, Any]:
    if receipt_type not in TYPES:
        raise InvalidParam(f"The receipt type is one of {', '.join(TYPES)}")
    if "thread_id" in body.model_fields_set and (body.thread_id is None or receipt_type == FULLY_READ):
        raise InvalidParam("thread_id is a non-empty string, for read receipts only")
    await give_receipt(session, streams, user.user_id, room_id, receipt_type, event_id, body.thread_id, now_ms=now_ms)
    return {}


@router.post("/read_markers")
async def post_read_markers(
    room_id: RoomID, body: Markers, user: CurrentUser, session: Transaction, streams: OpenStreams, now_ms: Now
) -> dict[str, Any]:
    for receipt_type, event_id in body.by_type().items():
        await give_receipt(session, streams, user.user_id, room_id, receipt_type, event_id, now_ms=now_ms)
    return {}
