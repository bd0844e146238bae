"""What is open while rooms are written to and read."""

from collections.abc import Mapping
from typing import Any

from identity_server.homeserver.rooms.backfill import Past
from identity_server.homeserver.rooms.membership import Members
from identity_server.homeserver.rooms.spaces import Spaces
from identity_server.runtime.resources import Resources


def open_rooms(opened: Mapping[str, Any]) -> dict[str, Any]:
    """By the names that the application keeps them under; ``opened``: what it has opened so far."""
    resources: Resources = opened["resources"]
    database, timeline, calls = resources.database, opened["timeline"], opened["federation_calls"]
    members = Members(
        database, timeline, calls, opened["remote_rooms"], opened["http"], opened["trusted_servers"], resources.clock
    )
    return {
        "members": members,
        "past": Past(database, timeline, opened["backfill"]),
        "spaces": Spaces(database, calls),
    }
