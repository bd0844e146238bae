"""A real SMTP server, in a process of its own, that takes every mail and counts them."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import uvloop
from aiosmtpd.smtp import SMTP

from benchmarks.processes import free_port


@dataclass
class Sink:
    port: int
    process: asyncio.subprocess.Process

    async def received(self) -> int:
        """How many mails there were; it takes no more."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        return int(await self.process.stdout.readline())


@asynccontextmanager
async def sinking() -> AsyncIterator[Sink]:
    port, pipe = free_port(), asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "ignore", "-m", "benchmarks.mail_sink", str(port), stdin=pipe, stdout=pipe
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
        yield Sink(port, process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class _Counting:
    def __init__(self) -> None:
        self.mails = 0

    async def handle_DATA(self, _server: Any, _session: Any, _envelope: Any) -> str:  # noqa: N802 (aiosmtpd calls it by this name)
        self.mails += 1
        return "250 OK"


async def _serve(port: int) -> None:
    counting = _Counting()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(counting, hostname="sink.test"), "127.0.0.1", port)
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    print(counting.mails, flush=True)
    server.close()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
