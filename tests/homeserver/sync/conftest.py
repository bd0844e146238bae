"""People whose clients sync."""

import json as jsonlib
from typing import Any

from tests.homeserver.rooms.conftest import Meet, Person, alice, bob, meet

__all__ = ["Meet", "Person", "Syncing", "alice", "bob", "meet"]


class Syncing:
    """A client that remembers where it was."""

    def __init__(self, person: Person, **params: Any) -> None:
        self.person = person
        self.since: str | None = None
        self.params = params

    async def sync(self, **params: Any) -> Any:
        asked = {**self.params, **params}
        if isinstance(asked.get("filter"), dict):
            asked["filter"] = jsonlib.dumps(asked["filter"])
        if self.since is not None:
            asked.setdefault("since", self.since)
        answer = await self.person.do("GET", "/sync", **asked)
        self.since = answer["next_batch"]
        return answer

    async def room(self, room_id: str, section: str = "join", **params: Any) -> Any:
        """What the next sync says of the room; it has to say something."""
        return (await self.sync(**params))["rooms"][section][room_id]
