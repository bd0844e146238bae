"""The servers and people of the stories. Servers are started once for a process of pytest, when they are first needed.

``INTEROP_REFERENCE=1`` has the stories told of Synapse alone, too: so one sees whether a story is right.
``INTEROP_ALL=1`` has those of rooms told in every version, even where that should make no difference.
"""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.interop.nio_client import Enter, open_clients
from tests.interop.people import People, open_people
from tests.interop.servers import OURS, SYNAPSE, Homeserver, World, open_world

IS_ALL_ASKED = bool(os.environ.get("INTEROP_ALL"))
IS_REFERENCE_ASKED = bool(os.environ.get("INTEROP_REFERENCE"))

# Who has the room, and who comes as a guest.
PAIRS = [
    (OURS, SYNAPSE),
    (SYNAPSE, OURS),
    (OURS, f"{OURS} 2"),
    *([(SYNAPSE, f"{SYNAPSE} 2")] if IS_REFERENCE_ASKED else []),
]
SERVERS = [OURS, *([SYNAPSE] if IS_REFERENCE_ASKED else [])]


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with open_world(tmp_path_factory.mktemp("world")) as world:
        yield world


@pytest.fixture
async def people(world: World) -> AsyncIterator[People]:
    async with open_people(world) as people:
        yield people


@pytest.fixture
async def enter(tmp_path: Path) -> AsyncIterator[Enter]:
    async with open_clients(tmp_path) as enter:
        yield enter


@pytest.fixture(params=PAIRS, ids=" with ".join)
def pair(request: pytest.FixtureRequest) -> tuple[str, str]:
    first, second = request.param
    return first, second


@pytest.fixture
def host(pair: tuple[str, str], world: World) -> Homeserver:
    return world.homeserver(pair[0])


@pytest.fixture
def guest(pair: tuple[str, str], world: World) -> Homeserver:
    return world.homeserver(pair[1])


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest, world: World) -> Homeserver:
    """One that clients are tried with."""
    return world.homeserver(request.param)
