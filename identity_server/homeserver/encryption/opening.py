"""What is at work for encryption while the homeserver runs."""

from collections.abc import Awaitable, Callable

from identity_server.homeserver.encryption.device_lists import follow, resync
from identity_server.homeserver.encryption.device_lists.follow import DeviceListFollower
from identity_server.homeserver.encryption.device_lists.resync import DeviceListResync
from identity_server.homeserver.federation.calls import FederationCalls
from identity_server.homeserver.streams import Streams
from identity_server.runtime.background import once_at_a_time
from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database


def device_list_loops(
    database: Database, streams: Streams, federation: FederationCalls, clock: Clock, *, server_name: str, holder: str
) -> tuple[Callable[[], Awaitable[None]], ...]:
    """Loops of which each runs in one of all processes."""
    follower = DeviceListFollower(database, streams, server_name)
    resyncs = DeviceListResync(database, federation, server_name)
    return (
        once_at_a_time(
            "follow device lists",
            follower.run_due,
            database=database,
            clock=clock,
            holder=holder,
            every_ms=follow.EVERY_MS,
        ),
        once_at_a_time(
            "fetch device lists",
            resyncs.run_due,
            database=database,
            clock=clock,
            holder=holder,
            every_ms=resync.EVERY_MS,
        ),
    )
