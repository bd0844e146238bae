from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.homeserver.federation.servers import Authority, Homeserver

MakeHomeserver = Callable[[], Awaitable[Homeserver]]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
async def make_homeserver(
    tmp_path: Path, authority: Authority, new_database_url: Callable[[], Awaitable[str]]
) -> AsyncIterator[MakeHomeserver]:
    """Starts homeservers that trust each other's certificates."""
    made: list[Homeserver] = []

    async def make() -> Homeserver:
        homeserver = Homeserver(tmp_path / f"server{len(made)}", await new_database_url(), authority)
        made.append(homeserver)
        await homeserver.start()
        return homeserver

    yield make
    for homeserver in made:
        await homeserver.stop()


@pytest.fixture
async def here(make_homeserver: MakeHomeserver) -> Homeserver:
    return await make_homeserver()


@pytest.fixture
async def there(make_homeserver: MakeHomeserver) -> Homeserver:
    return await make_homeserver()
