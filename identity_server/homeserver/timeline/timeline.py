"""What is open while events are sent and received."""

from dataclasses import dataclass, field
from typing import Annotated

from identity_server.homeserver.keys import ServerKeys
from identity_server.homeserver.streams import Streams
from identity_server.homeserver.timeline.state import StateGroups
from identity_server.matrix.signing import SigningKey
from identity_server.runtime.dependencies import opened


@dataclass(frozen=True)
class Timeline:
    """Who we are, whom we wake, and the states that were needed lately."""

    keys: ServerKeys
    streams: Streams
    groups: StateGroups = field(default_factory=StateGroups)

    @property
    def server_name(self) -> str:
        return self.keys.server_name

    @property
    def signing_key(self) -> SigningKey:
        """The newest."""
        return self.keys.keys[-1]


OpenTimeline = Annotated[Timeline, opened("timeline")]
