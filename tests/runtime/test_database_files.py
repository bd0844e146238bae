"""The files of an SQLite database hold every address in the clear."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from identity_server.runtime.database import Database


@pytest.fixture(autouse=True)
def generous_umask() -> Iterator[None]:
    umask = os.umask(0o022)
    yield
    os.umask(umask)


async def write(file: Path) -> dict[str, int]:
    """The modes of the files that there are while the database is open."""
    database = Database(f"sqlite:///{file}")
    try:
        async with database.transaction() as session:
            await session.execute(text("CREATE TABLE addresses (address TEXT)"))
        return {made.name: stat.S_IMODE(made.stat().st_mode) for made in file.parent.iterdir()}
    finally:
        await database.close()


async def test_only_their_owner_reads_them_even_where_the_folder_was_there_before(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    assert await write(tmp_path / "some.db") == {"some.db": 0o600, "some.db-wal": 0o600, "some.db-shm": 0o600}


async def test_a_file_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "some.db"
    file.touch(0o640)
    assert await write(file) == {"some.db": 0o640, "some.db-wal": 0o640, "some.db-shm": 0o640}
