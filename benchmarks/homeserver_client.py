"""A client that costs little beside what it measures: one connection, one request at a time."""

import asyncio
import ssl
from typing import Any

import orjson


class Client:
    """Speaks to the server on ``port`` of this machine, by TLS if ``trust`` says whom to trust."""

    def __init__(self, port: int, token: str = "", trust: ssl.SSLContext | None = None) -> None:
        self.token = token
        self._port = port
        self._trust = trust
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(self, method: str, path: str, body: Any = None, authorization: str = "") -> Any:
        """The JSON that a request is answered with; it must be answered with 200."""
        status, answer = await self.ask(method, path, body, authorization)
        assert status == 200, f"{method} {path}: {status} {answer}"
        return answer

    async def ask(self, method: str, path: str, body: Any = None, authorization: str = "") -> tuple[int, Any]:
        content = b"" if body is None else orjson.dumps(body)
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(content)}"]
        if body is not None:
            lines.append("Content-Type: application/json")
        if authorization or self.token:
            lines.append(f"Authorization: {authorization or f'Bearer {self.token}'}")
        if self._streams is not None and self._streams[0].at_eof():
            await self.close()  # the server waits a few seconds for the next request
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, ssl=self._trust, limit=2**26)
        reader, writer = self._streams
        writer.write("\r\n".join([*lines, "", ""]).encode() + content)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b"transfer-encoding: chunked" in head:
            answer = b"".join([chunk async for chunk in _chunks(reader)])
        else:
            length = head.partition(b"content-length: ")[2]
            answer = await reader.readexactly(int(length[: length.index(b"\r\n")]))
        if b"connection: close" in head:
            await self.close()
        return int(head[9:12]), orjson.loads(answer or b"null")

    async def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def _chunks(reader: asyncio.StreamReader) -> Any:
    while size := int(await reader.readline(), 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)
