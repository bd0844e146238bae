"""What /sync keeps in memory between requests, all of it to be had from the database again."""

from dataclasses import dataclass, field
from typing import Annotated

from identity_server.homeserver.account_data.computed import Computed
from identity_server.homeserver.sync.members import SentMembers
from identity_server.homeserver.sync.standing import JoinedRooms
from identity_server.homeserver.sync.summary import MemberCounts
from identity_server.homeserver.sync.unread import Unread
from identity_server.homeserver.timeline.state import StateGroups
from identity_server.homeserver.typing.typing import Typing
from identity_server.runtime.dependencies import opened


@dataclass(frozen=True)
class SyncParts:
    groups: StateGroups
    typing: Typing
    computed: Computed
    joined_rooms: JoinedRooms = field(default_factory=JoinedRooms)
    sent_members: SentMembers = field(default_factory=SentMembers)
    member_counts: MemberCounts = field(default_factory=MemberCounts)
    unread: Unread = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "unread", Unread(self.member_counts))


OpenSync = Annotated[SyncParts, opened("sync")]
