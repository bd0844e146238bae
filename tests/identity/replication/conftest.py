from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.identity.replication.mesh import Mesh, open_mesh


@pytest.fixture
async def pair(new_database_url: Callable[[], Awaitable[str]], tmp_path: Path) -> AsyncIterator[Mesh]:
    """Two servers that trust each other."""
    async with open_mesh(["a.test", "b.test"], new_database_url, tmp_path) as mesh:
        await mesh.befriend()
        yield mesh
