"""matrix-nio as a bot would use it: a client with keys of its own, that remembers what it was told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import nio
import pytest
from nio.crypto import SasState

from tests.interop.people import CLIENT, PASSWORD, numbers, quoted
from tests.interop.servers import Homeserver

PATIENCE_SECONDS = 20

# Its own faults, not ours to mend: marks for tests that use it.
BY_NIO = [
    pytest.mark.filterwarnings(f"ignore::{kind}")
    for kind in ("DeprecationWarning", "ResourceWarning", "pytest.PytestUnraisableExceptionWarning")
]

Response = TypeVar("Response")
Enter = Callable[..., Awaitable["Client"]]


class Client(nio.AsyncClient):
    """As it comes; it remembers the events that it was told of."""

    def __init__(self, server: Homeserver, user: str, store: Path) -> None:
        config = nio.AsyncClientConfig(encryption_enabled=True, store_sync_tokens=False, request_timeout=30)
        store.mkdir(exist_ok=True)
        super().__init__(server.url, user, store_path=str(store), config=config)
        self.server = server
        self.heard: list[tuple[str, Any]] = []
        self.left: set[str] = set()
        self.typing: dict[str, list[str]] = {}
        self.receipts: list[Any] = []
        self.add_event_callback(self._hear, nio.Event)
        self.add_ephemeral_callback(self._see_typing, nio.TypingNoticeEvent)
        self.add_ephemeral_callback(self._see_receipts, nio.ReceiptEvent)

    async def _hear(self, room: nio.MatrixRoom, event: nio.Event) -> None:
        self.heard.append((room.room_id, event))

    async def _see_typing(self, room: nio.MatrixRoom, event: Any) -> None:
        self.typing[room.room_id] = event.users

    async def _see_receipts(self, _room: nio.MatrixRoom, event: Any) -> None:
        self.receipts += event.receipts

    async def turn(self, timeout_ms: int = 0) -> None:
        """One turn of what ``sync_forever`` does."""
        told = got(nio.SyncResponse, await self.sync(timeout_ms, full_state=not self.next_batch)).rooms
        self.left = (self.left | set(told.leave)) - set(told.join)
        if self.should_upload_keys:
            got(nio.KeysUploadResponse, await self.keys_upload())
        if self.should_query_keys:
            got(nio.KeysQueryResponse, await self.keys_query())
        if self.should_claim_keys:
            got(nio.KeysClaimResponse, await self.keys_claim(self.get_users_for_key_claiming()))
        await self.send_to_device_messages()

    async def until(self, holds: Callable[[], Any], what: str) -> Any:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self.turn()
                while not (result := holds()):
                    await self.turn(3000)
                return result
        except TimeoutError:
            raise AssertionError(f"{self.user_id} never saw {what}; heard: {self.heard}") from None

    async def hears(self, room_id: str, event_id: str) -> Any:
        def found() -> Any:
            return next((event for room, event in self.heard if (room, event.event_id) == (room_id, event_id)), None)

        return await self.until(found, event_id)

    async def says(self, room_id: str, body: str) -> str:
        content = {"msgtype": "m.text", "body": body}
        return got(nio.RoomSendResponse, await self.room_send(room_id, "m.room.message", content)).event_id


def got(kind: type[Response], answer: Any) -> Response:
    """``answer``, which is an error of nio's otherwise."""
    assert isinstance(answer, kind), f"{answer!r}"
    return answer


@asynccontextmanager
async def open_clients(folder: Path) -> AsyncIterator[Enter]:
    """What registers somebody and logs in on a device with a store for keys: ``enter(name, server)``, and for another
    device of the same person ``enter(name, server, again=client)``.
    """
    async with AsyncExitStack() as stack:

        async def enter(name: str, server: Homeserver, again: Client | None = None) -> Client:
            if again is None:
                async with closing(nio.AsyncClient(server.url)) as nobody:
                    answer = await nobody.register(f"{name}-{next(numbers):x}", PASSWORD, "First")
                    user_id = got(nio.RegisterResponse, answer).user_id
                    got(nio.LogoutResponse, await nobody.logout())
            else:
                user_id = again.user_id
            client = Client(server, user_id, folder / f"{name}-{next(numbers):x}")
            await stack.enter_async_context(closing(client))
            got(nio.LoginResponse, await client.login(PASSWORD, f"{name}'s device"))
            await client.turn()
            return client

        yield enter


@asynccontextmanager
async def closing(client: nio.AsyncClient) -> AsyncIterator[nio.AsyncClient]:
    try:
        yield client
    finally:
        await client.close()


async def in_a_room(alice: Client, bob: Client, **options: Any) -> str:
    """That Alice makes, invites Bob to, and Bob joins; both know."""
    created = await alice.room_create(name="The shed", topic="Tools", invite=[bob.user_id], **options)
    room_id = got(nio.RoomCreateResponse, created).room_id
    await bob.until(lambda: room_id in bob.invited_rooms, "the invitation")
    assert bob.invited_rooms[room_id].inviter == alice.user_id
    assert bob.invited_rooms[room_id].display_name == "The shed"
    got(nio.JoinResponse, await bob.join(room_id))
    await bob.until(lambda: room_id in bob.rooms and alice.user_id in bob.rooms[room_id].users, "the room")
    await alice.until(lambda: room_id in alice.rooms and bob.user_id in alice.rooms[room_id].users, "Bob in the room")
    return room_id


async def meet(alice: Client, bob: Client) -> None:
    """They verify each other's device by comparing emoji (SAS, over messages to devices)."""
    await alice.until(lambda: list(alice.device_store.active_user_devices(bob.user_id)), "Bob's device")
    await bob.until(lambda: list(bob.device_store.active_user_devices(alice.user_id)), "Alice's device")
    (device,) = alice.device_store.active_user_devices(bob.user_id)
    got(nio.ToDeviceResponse, await alice.start_key_verification(device))
    (transaction,) = alice.key_verifications
    await bob.until(lambda: transaction in bob.key_verifications, "that she wants to verify")
    got(nio.ToDeviceResponse, await bob.accept_key_verification(transaction))
    hers, his = alice.key_verifications[transaction], bob.key_verifications[transaction]
    await alice.until(lambda: hers.state in (SasState.accepted, SasState.key_received), "his consent")
    await bob.until(lambda: his.state is SasState.key_received, "her key")
    await alice.until(lambda: hers.state is SasState.key_received, "his key")
    assert hers.get_emoji() == his.get_emoji()
    got(nio.ToDeviceResponse, await alice.confirm_short_auth_string(transaction))
    got(nio.ToDeviceResponse, await bob.confirm_short_auth_string(transaction))
    await alice.until(lambda: hers.verified, "that they match")
    await bob.until(lambda: his.verified, "that they match")


def trust(truster: Client, trusted: Client) -> None:
    for device in truster.device_store.active_user_devices(trusted.user_id):
        truster.verify_device(device)


async def raw_event(client: Client, room_id: str, event_id: str) -> dict[str, Any]:
    """As the server has it, not decrypted."""
    url = f"{client.homeserver}{CLIENT}/rooms/{quoted(room_id)}/event/{quoted(event_id)}"
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(url, headers={"Authorization": f"Bearer {client.access_token}"})
    event: dict[str, Any] = answer.json()
    return event
