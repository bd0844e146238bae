"""A homeserver's database with as many events as are wanted, written with the homeserver's own code."""

import asyncio
from pathlib import Path

from identity_server.homeserver.application import open_homeserver
from identity_server.homeserver.events.versions import room_version
from identity_server.homeserver.rooms.create import Plan, create_room
from identity_server.homeserver.timeline.build import Draft
from identity_server.homeserver.timeline.send import send_event
from identity_server.runtime.clock import SystemClock
from identity_server.runtime.tokens import SystemEntropy
from identity_server.settings import HomeserverSettings, ServerSettings, Settings

_ROOMS = 50
_IN_ONE_TRANSACTION = 500


def fill(folder: Path, name: str, events: int) -> None:
    """``events`` messages in some rooms, in the database that the server ``name`` will find in ``folder``."""
    asyncio.run(_fill(folder, name, events))


async def _fill(folder: Path, name: str, events: int) -> None:
    settings = Settings(server=ServerSettings(data_dir=folder), homeserver=HomeserverSettings(name=name))
    clock, entropy = SystemClock(), SystemEntropy()
    sender = f"@writer:{name}"
    async with open_homeserver(settings, background=False) as state:
        database, timeline = state["resources"].database, state["timeline"]
        plan = Plan(room_version("12"), "public_chat")
        async with database.transaction() as session:
            rooms = [
                await create_room(session, timeline, sender, plan, entropy=entropy, now_ms=clock.now_ms())
                for _ in range(_ROOMS)
            ]
        for start in range(0, events, _IN_ONE_TRANSACTION):
            async with database.transaction() as session:
                for number in range(start, min(start + _IN_ONE_TRANSACTION, events)):
                    content = {"msgtype": "m.text", "body": f"Message {number}"}
                    draft = Draft(rooms[number % _ROOMS], "m.room.message", sender, content)
                    await send_event(session, timeline, draft, now_ms=clock.now_ms())
