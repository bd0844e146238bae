"""Where the bytes of media lie, and how they get there."""

import asyncio
import contextlib
import hashlib
import os
import shutil
from collections.abc import AsyncIterable, Iterable
from pathlib import Path
from typing import NamedTuple

from identity_server.runtime.tokens import Entropy

_AT_ONCE = 256 * 1024
_NAME_LENGTH = 24


class MediaKey(NamedTuple):
    """The two parts of an ``mxc://`` URI."""

    server_name: str
    media_id: str

    @property
    def uri(self) -> str:
        return f"mxc://{self.server_name}/{self.media_id}"


class MediaFiles:
    """Files below ``folder``, spread over subfolders, named by a hash: nothing of a URI becomes part of a path."""

    def __init__(self, folder: Path, entropy: Entropy) -> None:
        self._folder = folder
        self._entropy = entropy

    def path(self, key: MediaKey) -> Path:
        return self._place(key) / "content"

    def thumbnail(self, key: MediaKey, name: str) -> Path:
        return self._place(key) / name

    async def receive(self, chunks: AsyncIterable[bytes]) -> tuple[Path, int]:
        """A temporary file with what is streamed, and its size in bytes; ``keep`` or ``drop`` it."""
        path = await asyncio.to_thread(self._new_temporary)
        size, waiting = 0, bytearray()
        try:
            async for chunk in chunks:
                size += len(chunk)
                waiting += chunk
                if len(waiting) >= _AT_ONCE:
                    await asyncio.to_thread(_append, path, [bytes(waiting)])
                    waiting.clear()
            await asyncio.to_thread(_append, path, [bytes(waiting)], durably=True)
        except BaseException:
            await self.drop(path)
            raise
        return path, size

    async def write(self, target: Path, content: bytes) -> None:
        """All at once, and whole or not at all."""
        path = await asyncio.to_thread(self._new_temporary)
        await asyncio.to_thread(_append, path, [content])
        await self._move(path, target)

    async def keep(self, temporary: Path, key: MediaKey) -> None:
        await self._move(temporary, self.path(key))

    async def drop(self, temporary: Path) -> None:
        with contextlib.suppress(OSError):
            await asyncio.to_thread(temporary.unlink)

    async def remove(self, key: MediaKey) -> None:
        """With its thumbnails."""
        await asyncio.to_thread(shutil.rmtree, self._place(key), ignore_errors=True)

    async def _move(self, temporary: Path, target: Path) -> None:
        def move() -> None:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.replace(temporary, target)

        await asyncio.to_thread(move)

    def _new_temporary(self) -> Path:
        folder = self._folder / "incoming"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder / self._entropy.token(_NAME_LENGTH)

    def _place(self, key: MediaKey) -> Path:
        name = hashlib.sha256(key.uri.encode()).hexdigest()
        return self._folder / name[:2] / name[2:4] / name[4:]


def _append(path: Path, pieces: Iterable[bytes], *, durably: bool = False) -> None:
    with path.open("ab") as file:
        file.writelines(pieces)
        if durably:
            file.flush()
            os.fsync(file.fileno())
