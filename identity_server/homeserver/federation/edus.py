"""What other servers are told beside events (Server-Server API, "EDUs").

What must arrive is a row until it has; what only matters now (typing) goes with the next transaction or not at all.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.federation.models import OutgoingEdu
from identity_server.homeserver.streams import FEDERATION, Streams
from identity_server.runtime.database import after_commit


@dataclass(frozen=True)
class Edu:
    edu_type: str
    content: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        return {"edu_type": self.edu_type, "content": self.content}


HandleEdu = Callable[[AsyncSession, str, Mapping[str, Any]], Awaitable[None]]
"""Takes what an origin sent as content, which nobody has looked at yet. If it raises a ``MatrixError`` nothing of it
stays, and the rest of the transaction goes on."""

Edus = Mapping[str, HandleEdu]
"""Who is told of an incoming EDU, by its type."""


async def queue_edu(
    session: AsyncSession,
    server_name: str,
    edu_type: str,
    content: Mapping[str, Any],
    *,
    key: str | None = None,
    streams: Streams | None = None,
) -> None:
    """Have ``server_name`` told, as soon as the transaction is committed and the server can be reached.

    What is queued with a ``key`` takes the place of what was queued with the same and is not yet sent. With
    ``streams`` the sender is woken; otherwise it looks by itself a moment later.
    """
    await queue_edus(session, [server_name], edu_type, content, key=key, streams=streams)


async def queue_edus(
    session: AsyncSession,
    server_names: Iterable[str],
    edu_type: str,
    content: Mapping[str, Any],
    *,
    key: str | None = None,
    streams: Streams | None = None,
) -> None:
    """As ``queue_edu``, for several servers."""
    told, written = list(server_names), orjson.dumps(content).decode()
    if key is not None:
        for server_name in told:
            await session.execute(
                delete(OutgoingEdu).where(
                    OutgoingEdu.server_name == server_name, OutgoingEdu.edu_type == edu_type, OutgoingEdu.key == key
                )
            )
    session.add_all(OutgoingEdu(server_name=name, edu_type=edu_type, key=key, content=written) for name in told)
    await session.flush()
    if streams is not None and told:
        after_commit(session, lambda: streams.wake([FEDERATION]))
