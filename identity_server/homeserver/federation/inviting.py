"""Inviting users of other servers: the invitation is theirs to sign before it is sent ("Inviting to a room")."""

from collections.abc import Sequence
from dataclasses import replace

from identity_server.homeserver.events.event import Event
from identity_server.homeserver.events.reading import read_event
from identity_server.homeserver.events.redaction import redact
from identity_server.homeserver.federation.calls import federation_path
from identity_server.homeserver.federation.place import authorise_by_group
from identity_server.homeserver.federation.receive import Receiver
from identity_server.homeserver.timeline.append import append
from identity_server.homeserver.timeline.build import Draft
from identity_server.homeserver.timeline.room import lock_room
from identity_server.homeserver.timeline.send import prepare_event
from identity_server.homeserver.timeline.stored import StoredEvent
from identity_server.homeserver.timeline.stripped import shown_state
from identity_server.matrix.errors import BadGateway, MatrixError, PassedOn
from identity_server.matrix.http import Unreachable
from identity_server.matrix.identifiers import domain_of
from identity_server.matrix.json_api import Refused
from identity_server.matrix.server_keys import UnknownKey
from identity_server.matrix.signing import ALGORITHM, InvalidSignature, verify_json

_TIMEOUT_MS = 30_000


async def invite(receiver: Receiver, draft: Draft, *, now_ms: int) -> StoredEvent | Event:
    """The invitation as it was sent, or as it stands already.

    The other server is asked between two transactions: the room may go on meanwhile, and the invitation becomes a
    branch of its history. Raises ``NotFound``, ``NotAllowed``, ``Forbidden``, ``InvalidEvent``; ``PassedOn`` with what
    the other server said, ``BadGateway`` if it said nothing of use.
    """
    timeline, database = receiver.timeline, receiver.database
    assert draft.state_key is not None  # it is an invitation
    async with database.transaction() as session:
        room = await lock_room(session, draft.room_id)
        prepared = await prepare_event(session, timeline, room, draft, now_ms=now_ms)
        if isinstance(prepared, StoredEvent):
            return prepared
        shown = await shown_state(session, draft.room_id, draft.sender)
    event = await _countersigned(receiver, domain_of(draft.state_key), prepared.event, shown)
    async with database.transaction() as session:
        room = await lock_room(session, draft.room_id)
        await authorise_by_group(session, timeline, event, room.state_group)
        await append(session, timeline, event, state_before=prepared.before, is_ours=True)
    return event


async def _countersigned(receiver: Receiver, server_name: str, event: Event, shown: Sequence[Event]) -> Event:
    """The invitation with the signature of the invited user's server; ``shown``: what that is told of the room.

    Raises ``PassedOn`` with what the other server said, ``InvalidEvent`` if that is no event, ``BadGateway`` if it
    said nothing of use.
    """
    content = {
        "room_version": event.version.identifier,
        "event": dict(event.pdu),
        "invite_room_state": [dict(one.pdu) for one in shown],
    }
    path = federation_path("invite", event.room_id, event.event_id, version="v2")
    try:
        answer = await receiver.fetch.calls.put(server_name, path, content, timeout_ms=_TIMEOUT_MS)
        signed = read_event(answer.get("event", {}), event.version)
        if signed.event_id != event.event_id:
            raise BadGateway("The other server signed another event")
        theirs = await _their_signatures(receiver, server_name, signed)
    except Refused as error:
        raise passed_on(error) from error
    except Unreachable as error:
        raise BadGateway("The invited user's server cannot be reached") from error
    except (UnknownKey, InvalidSignature) as error:
        raise BadGateway("The invited user's server did not sign the invitation") from error
    return replace(event, pdu={**event.pdu, "signatures": {**event.pdu["signatures"], server_name: theirs}})


async def _their_signatures(receiver: Receiver, server_name: str, event: Event) -> dict[str, str]:
    """Raises ``InvalidSignature`` and ``UnknownKey``."""
    signatures: dict[str, str] = {
        key_id: signature
        for key_id, signature in event.pdu["signatures"].get(server_name, {}).items()
        if key_id.startswith(f"{ALGORITHM}:")
    }
    if not signatures:
        raise InvalidSignature("the server did not sign")
    redacted = redact(event.pdu, event.version)
    for key_id in signatures:
        key = await receiver.fetch.key_ring.event_key(server_name, key_id, event.origin_server_ts)
        verify_json(redacted, server_name, key)
    return signatures


def passed_on(error: Refused) -> MatrixError:
    """What a client is told of it; what was wrong between the servers is none of its doing."""
    if error.status not in (400, 403, 404) or error.errcode in ("M_MISSING_PARAM", "M_INVALID_PARAM", "M_BAD_JSON"):
        return BadGateway("The other server refused")
    told = PassedOn(error.status, error.errcode, error.message)
    if isinstance(version := error.body.get("room_version"), str):
        told.body["room_version"] = version
    return told
