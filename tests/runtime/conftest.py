from collections.abc import AsyncIterator

import pytest

from identity_server.runtime.database import Database
from identity_server.runtime.migrations import prepare


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An identity server's, on each engine in turn."""
    database = Database(database_url)
    await prepare(database, "identity")
    yield database
    await database.close()
