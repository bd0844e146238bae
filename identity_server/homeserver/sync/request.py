"""What is asked of /sync."""

from dataclasses import dataclass

from identity_server.homeserver.sync.filter import SyncFilter
from identity_server.homeserver.sync.token import SyncToken
from identity_server.homeserver.timeline.client_format import Viewer


@dataclass(frozen=True)
class SyncRequest:
    """``since``: what the client has been told, if anything. ``state_after``: whether it wants the state at the end of
    the timeline rather than at its start."""

    user_id: str
    device_id: str
    since: SyncToken | None
    wanted: SyncFilter
    full_state: bool = False
    state_after: bool = False

    @property
    def viewer(self) -> Viewer:
        return Viewer(self.user_id, self.device_id)

    @property
    def told(self) -> int:
        """Up to which position; 0: of nothing yet."""
        return self.since.position if self.since else 0
