"""What the tour has done so far, with what went over the wire: for the terminal, and for the inbox page."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Literal
from urllib.parse import parse_qsl

import httpx

from identity_server.demo.pages.inbox import Exchange, Step


@dataclass
class Entry:
    """One step of the tour. ``notes`` are for people; ``failure`` says why it failed, if it did."""

    title: str
    status: Literal["waiting", "running", "done", "failed"] = "waiting"
    exchanges: list[Exchange] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failure: str = ""
    took_ms: int = 0


class Journal:
    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._current: Entry | None = None

    def plan(self, titles: Iterable[str]) -> list[Entry]:
        self.entries = [Entry(title) for title in titles]
        return self.entries

    def steps(self) -> list[Step]:
        """The entries as the inbox page shows them."""
        return [
            Step(
                f"{entry.title}. It failed: {entry.failure}" if entry.failure else entry.title,
                entry.status,
                list(entry.exchanges),
            )
            for entry in self.entries
        ]

    @contextmanager
    def running(self, entry: Entry) -> Iterator[None]:
        """Whatever is recorded and noted meanwhile belongs to ``entry``."""
        self._current, entry.status, started = entry, "running", perf_counter()
        try:
            yield
        finally:
            self._current, entry.took_ms = None, round((perf_counter() - started) * 1000)

    def note(self, text: str) -> None:
        if self._current is not None:
            self._current.notes.append(text)

    async def record(self, response: httpx.Response) -> None:
        """A response hook of httpx."""
        await response.aread()
        if self._current is not None:
            request = response.request
            self._current.exchanges.append(
                Exchange(
                    request.method,
                    request.url.raw_path.decode(),
                    response.status_code,
                    _readable(request.content, request.headers),
                    _readable(response.content, response.headers),
                )
            )


def _readable(content: bytes, headers: httpx.Headers) -> Any | None:
    """JSON as it is, a form as an object, and of anything else only what it is."""
    kind = headers.get("content-type", "").partition(";")[0]
    match kind:
        case _ if not content:
            return None
        case "application/json":
            return httpx.Response(200, content=content).json()
        case "application/x-www-form-urlencoded":
            return dict(parse_qsl(content.decode()))
        case _:
            return f"{kind}, {len(content)} bytes"
