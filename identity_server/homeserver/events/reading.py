"""Events as others send them."""

from collections.abc import Mapping
from typing import Any

from identity_server.homeserver.events.event import Event
from identity_server.homeserver.events.format import InvalidEvent, check_format
from identity_server.homeserver.events.hashing import event_id
from identity_server.homeserver.events.versions import RoomVersion


def read_event(pdu: Mapping[str, Any], version: RoomVersion) -> Event:
    """The event that ``pdu`` is, under the ID that its contents give it. Neither hash nor signature is checked.

    Raises ``InvalidEvent``, whatever is given. ``unsigned`` is left out: nobody vouches for it.
    """
    if not isinstance(pdu, Mapping):
        raise InvalidEvent("An event is an object")
    signed = {name: value for name, value in pdu.items() if name != "unsigned"}
    check_format(signed, version)
    return Event(event_id(signed, version), signed, version)
