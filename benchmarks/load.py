"""The load generator, in a process of its own: a few connections, each of which asks again as soon as it is answered.

It knows just as much of HTTP/1.1 as uvicorn's answers need (a Content-Length, keep-alive), and takes requests as bytes
that were prepared before the clock starts: so it costs a tenth of what it measures.
"""

import asyncio
import json
import os
import pickle
import sys
import tempfile
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import orjson
import uvloop


@dataclass(frozen=True)
class Load:
    """What is asked, and for how long at most. ``once``: each of ``requests`` is sent once, else they go round.
    ``pause``: seconds that a connection waits between an answer and its next request. ``until``: a file; once it is
    there, it is over."""

    port: int
    requests: Sequence[bytes]
    connections: int = 16
    seconds: float = 5.0
    once: bool = False
    pause: float = 0.0
    until: str = ""


@dataclass(frozen=True)
class Outcome:
    answered: int
    seconds: float
    statuses: Mapping[str, int]
    p50_ms: float
    p99_ms: float
    max_ms: float

    @property
    def per_second(self) -> float:
        return self.answered / self.seconds

    def checked(self) -> "Outcome":
        """This, if every answer was a 200."""
        assert set(self.statuses) == {"200"}, f"not only 200s: {self.statuses}"
        return self


def request(method: str, path: str, body: Any = None, *, token: str = "") -> bytes:
    content = b"" if body is None else orjson.dumps(body)
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(content)}"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    return "\r\n".join([*lines, "", ""]).encode() + content


async def run(load: Load) -> Outcome:
    """Let a process of its own do it."""
    with tempfile.TemporaryDirectory(prefix="load-") as folder:
        file = Path(folder) / "load"
        file.write_bytes(pickle.dumps(load))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.load", str(file), stdout=asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(load.seconds + 60):
                answer, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0, "the load generator failed"
    return Outcome(**json.loads(answer))


class _Connection(asyncio.Protocol):
    def __init__(self, load: Load, todo: "_Todo") -> None:
        self._load = load
        self._todo = todo
        self._received = bytearray()
        self._expected = -1
        self._began = 0.0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._ask()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._expected < 0:
            end = self._received.find(b"\r\n\r\n")
            if end < 0:
                return
            start = self._received.find(b"content-length: ") + 16
            length = int(self._received[start : self._received.find(b"\r\n", start)])
            self._expected = end + 4 + length
        if len(self._received) < self._expected:
            return
        self._todo.answered(self._received[9:12], perf_counter() - self._began)
        self._received.clear()
        self._expected = -1
        if self._load.pause:
            asyncio.get_running_loop().call_later(self._load.pause, self._ask)
        else:
            self._ask()

    def _ask(self) -> None:
        asked = self._todo.next()
        if asked is None:
            self.done.set_result(None)
            self._transport.close()
            return
        self._began = perf_counter()
        self._transport.write(asked)


class _Todo:
    """What is still to be asked, and what was answered."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._sent = 0
        self.statuses: Counter[str] = Counter()
        self.latencies = array("d")
        self.began = perf_counter()

    def next(self) -> bytes | None:
        is_over = perf_counter() - self.began > self._load.seconds or (
            self._load.until and os.path.exists(self._load.until)
        )
        if is_over or (self._load.once and self._sent >= len(self._load.requests)):
            return None
        self._sent += 1
        return self._load.requests[(self._sent - 1) % len(self._load.requests)]

    def answered(self, status: bytearray, seconds: float) -> None:
        self.statuses[status.decode()] += 1
        self.latencies.append(seconds)


async def _run(load: Load) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    todo = _Todo(load)
    pairs = [
        await loop.create_connection(lambda: _Connection(load, todo), "127.0.0.1", load.port)
        for _ in range(load.connections)
    ]
    await asyncio.gather(*(connection.done for _, connection in pairs))
    seconds = perf_counter() - todo.began
    sorted_ms = sorted(latency * 1000 for latency in todo.latencies)
    return {
        "answered": len(sorted_ms),
        "seconds": seconds,
        "statuses": todo.statuses,
        "p50_ms": sorted_ms[len(sorted_ms) // 2],
        "p99_ms": sorted_ms[len(sorted_ms) * 99 // 100],
        "max_ms": sorted_ms[-1],
    }


if __name__ == "__main__":
    # The pickle names its class by the module as others import it, not by "__main__".
    from benchmarks.load import Load as _Load

    loaded: _Load = pickle.loads(Path(sys.argv[1]).read_bytes())
    json.dump(uvloop.run(_run(loaded)), sys.stdout)
