"""Undoing bindings at identity servers, in the user's name, with this homeserver's signature.

Identity Service API, POST /3pid/unbind: a homeserver may unbind its own users' addresses, and needs no token for it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.keys import ServerKeys
from identity_server.homeserver.threepids import store
from identity_server.homeserver.validation.trusted import TrustedServers, base_url_of
from identity_server.matrix.http import Http, Unreachable
from identity_server.matrix.json_api import GuardedApi, Refused
from identity_server.matrix.origin_auth import authorization
from identity_server.matrix.threepid import Threepid
from identity_server.runtime.dependencies import opened
from identity_server.runtime.tasks import GiveUp, Payload, Tasks

UNBIND = "unbind"
SUCCESS = "success"
NO_SUPPORT = "no-support"

_URI = "/_matrix/identity/v2/3pid/unbind"
# Identity servers that came before this clause of the specification check `destination_is`, as Synapse signs it.
_DESTINATION_FIELDS = ("destination_is", "destination")


@dataclass(frozen=True)
class Binding:
    """An address that a user may be found by at ``id_server`` (as the client named it; None: nobody knows where)."""

    threepid: Threepid
    id_server: str | None


@dataclass(frozen=True)
class Unbinder:
    http: Http
    keys: ServerKeys
    trusted: TrustedServers

    async def unbind(self, binding: Binding, user_id: str) -> None:
        """Raises ``Refused`` and ``Unreachable``."""
        if binding.id_server is None:
            raise Refused(404, {})
        base_url = self.trusted.known(binding.id_server) or base_url_of(binding.id_server)
        content = {"mxid": user_id, "threepid": binding.threepid._asdict()}
        for field in _DESTINATION_FIELDS:
            header = authorization(
                self.keys.keys[-1],
                origin=self.keys.server_name,
                destination=urlsplit(base_url).netloc,
                method="POST",
                uri=_URI,
                content=content,
                destination_field=field,
            )
            try:
                await GuardedApi(self.http, base_url).call("POST", _URI, content, headers={"Authorization": header})
            except Refused as refusal:
                if refusal.status not in (401, 403) or field == _DESTINATION_FIELDS[-1]:
                    raise
            else:
                return

    async def run(self, payload: Payload) -> None:
        """A durable task: what ``unbind_all`` could not reach."""
        try:
            threepid = Threepid(payload["medium"], payload["address"])
            await self.unbind(Binding(threepid, payload["id_server"]), payload["mxid"])
        except Refused as refusal:
            if refusal.status < 500 and refusal.status != 429:
                raise GiveUp from refusal
            raise


OpenUnbinder = Annotated[Unbinder, opened("unbinder")]


async def known_bindings(
    session: AsyncSession, user_id: str, trusted: TrustedServers, *, only: Threepid | None = None
) -> list[Binding]:
    """The user's bindings, or those of the address ``only``, each at every server that it was bound at through us.

    Of those that identity servers told us of it is not known which did: the first trusted one, most likely.
    """
    through_us = await store.identity_bindings_of(session, user_id)
    bindings = [Binding(Threepid(row.medium, row.address), row.id_server) for row in through_us]
    covered = {binding.threepid for binding in bindings}
    default = trusted.urls[0] if trusted.urls else None
    for row in await store.bindings_of(session, user_id):
        threepid = Threepid(row.medium, row.address)
        if threepid not in covered:
            bindings.append(Binding(threepid, default))
    return [binding for binding in bindings if only in (None, binding.threepid)]


async def unbind_all(
    unbinder: Unbinder, bindings: Iterable[Binding], user_id: str
) -> tuple[str, list[Binding], list[Binding]]:
    """The ``id_server_unbind_result``, what is undone, and what could not be reached. Not for inside a transaction."""
    result = SUCCESS
    done: list[Binding] = []
    unreached: list[Binding] = []
    for binding in bindings:
        try:
            await unbinder.unbind(binding, user_id)
            done.append(binding)
        except Refused:
            result = NO_SUPPORT
        except Unreachable:
            result = NO_SUPPORT
            unreached.append(binding)
    return result, done, unreached


async def keep_trying(
    session: AsyncSession, tasks: Tasks, unreached: Iterable[Binding], user_id: str, *, now_ms: int
) -> None:
    for binding in unreached:
        payload: dict[str, Any] = {**binding.threepid._asdict(), "mxid": user_id, "id_server": binding.id_server}
        await tasks.enqueue(session, UNBIND, payload, now_ms=now_ms)


async def forget(session: AsyncSession, user_id: str, done: Iterable[Binding]) -> None:
    for binding in done:
        await store.remove_binding(session, user_id, binding.threepid, binding.id_server)
