"""What is open while rooms are written to and read."""

from typing import Any

from identity_server.homeserver.federation.backfill import Backfill
from identity_server.homeserver.federation.calls import FederationCalls
from identity_server.homeserver.federation.joins import RemoteRooms
from identity_server.homeserver.rooms.backfill import Past
from identity_server.homeserver.rooms.membership import Members
from identity_server.homeserver.rooms.spaces import Spaces
from identity_server.homeserver.timeline.timeline import Timeline
from identity_server.homeserver.validation.trusted import TrustedServers
from identity_server.matrix.http import Http
from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database


def open_rooms(
    database: Database,
    timeline: Timeline,
    remote: RemoteRooms,
    backfill: Backfill,
    calls: FederationCalls,
    http: Http,
    trusted: TrustedServers,
    clock: Clock,
) -> dict[str, Any]:
    """By the names that the application keeps them under."""
    return {
        "members": Members(database, timeline, calls, remote, http, trusted, clock),
        "past": Past(database, timeline, backfill),
        "spaces": Spaces(database, calls),
    }
