"""Our users in rooms of others: joining, knocking, leaving, through a server that is there already.

Server-Server API, "Joining Rooms", "Knocking upon a room", "Leaving Rooms (Rejecting Invites)". The network is asked
between transactions, so no endpoint may hold one while it calls these.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

import orjson
import structlog

from identity_server.homeserver.events.event import Event
from identity_server.homeserver.events.format import InvalidEvent
from identity_server.homeserver.events.hashing import seal
from identity_server.homeserver.events.signatures import AUTHORISED_VIA
from identity_server.homeserver.events.versions import VERSIONS
from identity_server.homeserver.federation.calls import FederationCalls, federation_path
from identity_server.homeserver.federation.entering import NotEnterable, enter
from identity_server.homeserver.federation.handshakes import MEMBER
from identity_server.homeserver.federation.invited import is_stripped
from identity_server.homeserver.federation.inviting import invite, passed_on
from identity_server.homeserver.federation.receive import Receiver
from identity_server.homeserver.timeline import store
from identity_server.homeserver.timeline.build import Draft
from identity_server.homeserver.timeline.models import Membership
from identity_server.homeserver.timeline.outside import put_outside_membership
from identity_server.homeserver.timeline.stored import StoredEvent
from identity_server.homeserver.timeline.stripped import stripped_event
from identity_server.matrix.canonical_json import LARGEST_INTEGER
from identity_server.matrix.errors import BadGateway, MatrixError, NotFound
from identity_server.matrix.http import Unreachable
from identity_server.matrix.identifiers import domain_of, split_server_name
from identity_server.matrix.json_api import Refused
from identity_server.runtime.clock import Clock
from identity_server.runtime.dependencies import opened

log = structlog.get_logger(__name__)

_MAKING_MS = 20_000
_SENDING_MS = 180_000
_LEAVING_MS = 10_000
_STATE_BYTES = 256 * 1024 * 1024
_MOST_SERVERS = 20
_STRIPPED = ("type", "state_key", "sender", "content")
_MOST_STRIPPED = 100

_T = TypeVar("_T")


class Malformed(Exception):
    """A server answered with what must not be signed, or cannot be."""


@dataclass(frozen=True)
class RemoteRooms:
    receiver: Receiver
    clock: Clock

    async def join(
        self,
        room_id: str,
        servers: Sequence[str],
        user_id: str,
        content: Mapping[str, Any],
        *,
        though_here: bool = False,
    ) -> bool:
        """Whether ``user_id`` came in through one of ``servers``; not if we are in the room meanwhile ourselves.

        ``though_here``: go through them all the same (none of ours may let the user in). Raises ``NotFound`` if there
        is nobody to ask, ``PassedOn`` with what the servers said, ``BadGateway`` if they said nothing.
        """
        lock = self.receiver.entering.setdefault(room_id, asyncio.Lock())
        async with lock:
            is_here = await self._is_here(room_id)
            if is_here and not though_here:
                return False

            async def through(server_name: str) -> None:
                event = await self._make(server_name, "join", room_id, user_id, content)
                path = federation_path("send_join", room_id, event.event_id, version="v2")
                answer = await self._calls.put(
                    server_name, path, event.pdu, timeout_ms=_SENDING_MS, max_bytes=_STATE_BYTES
                )
                await enter(self.receiver, server_name, event, answer, is_here=is_here, now_ms=self.clock.now_ms())

            await self._through_any(servers, through)
            return True

    async def knock(self, room_id: str, servers: Sequence[str], user_id: str, content: Mapping[str, Any]) -> None:
        """Raises as ``join``."""

        async def through(server_name: str) -> None:
            event = await self._make(server_name, "knock", room_id, user_id, content)
            path = federation_path("send_knock", room_id, event.event_id)
            answer = await self._calls.put(server_name, path, event.pdu)
            listed = answer.get("knock_room_state")
            told = listed[:_MOST_STRIPPED] if isinstance(listed, list) else []
            shown = [{name: one[name] for name in _STRIPPED} for one in told if is_stripped(one)]
            await self._note(event, [*shown, stripped_event(event)])

        await self._through_any(servers, through)

    async def leave(self, room_id: str, servers: Sequence[str], user_id: str, content: Mapping[str, Any]) -> None:
        """Turn down an invitation, or take back a knock. If nobody hears of it, it holds here nevertheless.

        Raises ``NotFound`` if there is nothing to leave.
        """
        async with self.receiver.database.reading() as session:
            row = await store.membership_row(session, room_id, user_id)
            before = await store.get_event(session, row.event_id) if row else None
        if row is None or before is None:
            raise NotFound("There is nothing to leave")

        async def through(server_name: str) -> None:
            event = await self._make(server_name, "leave", room_id, user_id, content)
            path = federation_path("send_leave", room_id, event.event_id, version="v2")
            await self._calls.put(server_name, path, event.pdu, timeout_ms=_LEAVING_MS)
            await self._note(event, None)

        try:
            await self._through_any([*servers, *_who_may_hear(row)], through)
        except MatrixError as error:
            log.info("nobody heard of a leave", error=error.body["errcode"])
            await self._note(self._leave_for_us(before.event, content), None)

    async def invite(self, draft: Draft) -> StoredEvent | Event:
        """The invitation of another server's user to a room that we are in, signed by that server and sent.

        Raises ``NotFound``, ``NotAllowed``, ``Forbidden``, ``InvalidEvent``; ``PassedOn`` and ``BadGateway``.
        """
        return await invite(self.receiver, draft, now_ms=self.clock.now_ms())

    @property
    def _calls(self) -> FederationCalls:
        return self.receiver.fetch.calls

    async def _is_here(self, room_id: str) -> bool:
        async with self.receiver.database.reading() as session:
            return await store.is_server_in_room(session, room_id, self.receiver.timeline.server_name)

    async def _through_any(self, servers: Sequence[str], through: Callable[[str], Coroutine[Any, Any, _T]]) -> _T:
        """What the first server that helps leads to. Raises what the others said, the most telling of it."""
        failures: list[MatrixError] = []
        for server_name in _distinct(servers, self.receiver.timeline.server_name):
            try:
                return await through(server_name)
            except Refused as error:
                failures.append(passed_on(error))
                if error.errcode == "M_INCOMPATIBLE_ROOM_VERSION":
                    break
            except (Unreachable, Malformed, NotEnterable) as error:
                log.info("a server did not help", error=type(error).__name__)
                failures.append(BadGateway(f"{server_name} did not answer as it should"))
        if not failures:
            raise NotFound("No server is known that is in the room")
        raise min(failures, key=_telling)

    async def _make(
        self, server_name: str, membership: str, room_id: str, user_id: str, content: Mapping[str, Any]
    ) -> Event:
        """The event of our user, made of the server's template and signed. Raises ``Malformed``."""
        query = None if membership == "leave" else {"ver": list(VERSIONS)}
        path = federation_path(f"make_{membership}", room_id, user_id, query=query)
        answer = await self._calls.get(
            server_name, path, timeout_ms=_LEAVING_MS if membership == "leave" else _MAKING_MS
        )
        version = VERSIONS.get(str(answer.get("room_version")))
        template = answer.get("event")
        if version is None or not isinstance(template, dict):
            raise Malformed("no template of a room that we know how to read")
        offered = template.get("content")
        expected = {"type": MEMBER, "room_id": room_id, "sender": user_id, "state_key": user_id}
        if any(template.get(name) != value for name, value in expected.items()) or not isinstance(offered, dict):
            raise Malformed("a template of another event")
        if offered.get("membership") != membership:
            raise Malformed("a template of another membership")
        said = {name: value for name, value in content.items() if name != AUTHORISED_VIA}
        if membership == "join" and AUTHORISED_VIA in offered:
            said[AUTHORISED_VIA] = offered[AUTHORISED_VIA]
        pdu = {
            **expected,
            "content": {**said, "membership": membership},
            "origin_server_ts": self.clock.now_ms(),
            **{name: template.get(name) for name in ("depth", "prev_events", "auth_events")},
        }
        timeline = self.receiver.timeline
        try:
            return seal(pdu, version, timeline.server_name, timeline.signing_key)
        except InvalidEvent as error:
            raise Malformed(str(error)) from error

    async def _note(self, event: Event, shown: list[dict[str, Any]] | None) -> None:
        async with self.receiver.database.transaction() as session:
            await put_outside_membership(session, self.receiver.timeline, event, stripped_state=shown)

    def _leave_for_us(self, before: Event, content: Mapping[str, Any]) -> Event:
        """An event that rests on what it puts an end to, and that no room will ever see."""
        timeline = self.receiver.timeline
        pdu = {
            "type": MEMBER,
            "room_id": before.room_id,
            "sender": before.state_key,
            "state_key": before.state_key,
            "content": {**content, "membership": "leave"},
            "origin_server_ts": self.clock.now_ms(),
            "depth": min(before.depth + 1, LARGEST_INTEGER),
            "prev_events": [before.event_id],
            "auth_events": [before.event_id],
        }
        return seal(pdu, before.version, timeline.server_name, timeline.signing_key)


OpenRemoteRooms = Annotated[RemoteRooms, opened("remote_rooms")]


def _who_may_hear(row: Membership) -> list[str]:
    """The servers of who invited, and of those who appear in what was told of the room."""
    told = orjson.loads(row.stripped_state or "[]")
    senders = [row.sender, *(one.get("sender") for one in told if isinstance(one, dict)), row.room_id]
    return [server for server in map(_server_of, senders) if server]


def _server_of(identifier: Any) -> str | None:
    try:
        return domain_of(identifier) if isinstance(identifier, str) else None
    except ValueError:
        return None


def _distinct(servers: Sequence[str], own: str) -> list[str]:
    named = []
    for server_name in dict.fromkeys(servers):
        try:
            split_server_name(server_name)
        except (ValueError, AttributeError):
            continue
        if server_name != own:
            named.append(server_name)
    return named[:_MOST_SERVERS]


def _telling(error: MatrixError) -> int:
    order = {"M_INCOMPATIBLE_ROOM_VERSION": 0, "M_FORBIDDEN": 1}
    return order.get(str(error.body["errcode"]), 2 if error.status < 500 and error.status != 404 else 3)
