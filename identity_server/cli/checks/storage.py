"""What is on disk or in the database: the signing keys and the tables."""

import asyncio
import os
import shutil
import stat
from pathlib import Path

from sqlalchemy import URL, inspect, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from identity_server.cli.checks.finding import Finding, fine, problem, warning
from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database, async_url
from identity_server.runtime.key_files import BadKeyFile, read_keys
from identity_server.runtime.migrations import OutOfDate, prepare
from identity_server.settings import Settings

_SCARCE_BYTES = 1024**3
_TOLERATED_MS = 5_000


async def check_keys(settings: Settings) -> list[Finding]:
    file = settings.signing_key_file
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        keys = read_keys(file)
    except FileNotFoundError:
        return [warning("keys", f"there is none in {file} yet", "the first start makes one: identity-server serve")]
    except OSError as error:
        return [problem("keys", f"{file} cannot be read: {error.strerror}", "run this as the server's user")]
    except BadKeyFile as error:
        return [problem("keys", str(error), "put the backup of the file back: a new key voids what the old one signed")]
    if mode & 0o077:
        return [problem("keys", f"others on this machine may read {file} (mode {mode:04o})", f"chmod 600 {file}")]
    signing = keys[-1].key_id
    return [fine("keys", f"{signing} signs" + (f", {len(keys) - 1} older to verify with" if len(keys) > 1 else ""))]


async def check_database(settings: Settings, clock: Clock) -> list[Finding]:
    try:
        url = async_url(settings.database_url)
    except (ValueError, SQLAlchemyError):
        return [
            problem(
                "database", "database.url is no database URL", "write sqlite:///path or postgresql://user@host/name"
            )
        ]
    if url.get_backend_name() == "sqlite" and (found := _check_folder(url)):
        return found
    private = _check_privacy(url) if url.get_backend_name() == "sqlite" else []
    database = Database(settings.database_url, pool_size=1, replica_url=settings.database.replica_url)
    try:
        return [
            await _check_schema(database),
            *private,
            *await _check_clock(database, clock),
            *await _check_replica(settings),
        ]
    except OutOfDate:
        return [problem("database", "its schema is of another version", "identity-server migrate")]
    except (DBAPIError, SQLAlchemyError, OSError) as error:
        return [problem("database", f"{_place(url)}: {_reason(error)}", "see that it runs, and check database.url")]
    finally:
        await database.close()


def _check_folder(url: URL) -> list[Finding]:
    """What is wrong with where an SQLite database is, or that there is nothing to open yet."""
    file = Path(url.database or "")
    folder = file.parent
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        return [
            problem("database", f"the folder {existing} is not writable", "let the server's user write there (chown)")
        ]
    if file.exists() and not os.access(file, os.R_OK | os.W_OK):
        return [problem("database", f"{file} is not writable", "let the server's user write it (chown)")]
    free = shutil.disk_usage(existing).free
    scarce = (
        [warning("disk", f"only {free // 1024**2} MB are free in {existing}", "make room before the database needs it")]
        if free < _SCARCE_BYTES
        else []
    )
    if not file.exists():
        return [*scarce, warning("database", f"{file} is not there yet", "the first start makes it")]
    return scarce


def _check_privacy(url: URL) -> list[Finding]:
    file = Path(url.database or "")
    mode, folder_mode = (stat.S_IMODE(path.stat().st_mode) for path in (file, file.parent))
    # Whoever may not enter the folder cannot read the file, whatever its own mode: r of the one, x of the other.
    if not mode >> 2 & folder_mode & 0o011:
        return []
    return [warning("database", f"others on this machine may read {file} (mode {mode:04o})", f"chmod 600 {file}*")]


async def _check_schema(database: Database) -> Finding:
    where = _place(database.url)
    async with database.reading() as session:
        connection = await session.connection()
        tables = await connection.run_sync(lambda sync: inspect(sync).get_table_names())
    if not tables:
        return warning("database", f"{where} is empty", "the first start makes the tables")
    await prepare(database, "identity")
    return fine("database", f"{where}, with the tables of this version")


async def _check_clock(database: Database, clock: Clock) -> list[Finding]:
    if database.is_sqlite:
        return []
    async with database.reading() as session:
        there = await session.scalar(text("SELECT extract(epoch FROM clock_timestamp()) * 1000"))
    apart_ms = abs(int(there or 0) - clock.now_ms())
    if apart_ms > _TOLERATED_MS:
        return [
            problem("clock", f"it is {apart_ms / 1000:.0f} s apart from the database's", "run NTP on both machines")
        ]
    return []


async def _check_replica(settings: Settings) -> list[Finding]:
    if not settings.database.replica_url:
        return []
    replica = Database(settings.database.replica_url, pool_size=1)
    try:
        async with replica.reading() as session:
            follows = await session.scalar(text("SELECT pg_is_in_recovery()"))
    except (DBAPIError, SQLAlchemyError, OSError) as error:
        return [problem("replica", f"{_place(replica.url)}: {_reason(error)}", "check database.replica_url")]
    finally:
        await replica.close()
    if not follows:
        return [
            problem("replica", f"{_place(replica.url)} is no replica", "database.replica_url must follow database.url")
        ]
    return [fine("replica", _place(replica.url))]


def _place(url: URL) -> str:
    if url.get_backend_name() == "sqlite":
        return f"SQLite, {url.database}"
    return f"PostgreSQL, {url.database} on {url.host or 'this machine'}"


def _reason(error: BaseException) -> str:
    cause = getattr(error, "orig", None) or error
    if isinstance(cause, asyncio.TimeoutError):
        return "no answer in time"
    return (str(cause).strip() or type(cause).__name__).splitlines()[0]
