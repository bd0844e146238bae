"""What clients are told of all this, through /sync and in rooms that they make."""

from typing import Any

from httpx import AsyncClient

from identity_server.homeserver.encryption.to_device.deliver import deliver
from tests.homeserver.conftest import Register
from tests.homeserver.encryption.phones import Phone, phone


class Client:
    """A phone that follows /sync."""

    def __init__(self, phone: Phone) -> None:
        self.phone = phone
        self.since: str | None = None

    async def sync(self) -> Any:
        since = {} if self.since is None else {"since": self.since}
        answer = await self.phone.ok("GET", "/sync", timeout=0, **since)
        self.since = answer["next_batch"]
        return answer

    async def lists(self) -> dict[str, list[str]]:
        lists = (await self.sync()).get("device_lists", {})
        return {name: users for name, users in lists.items() if users}


async def test_clients_are_told_of_device_lists_messages_and_keys(
    client: AsyncClient, register: Register, state: dict[str, Any]
) -> None:
    alice, bob = Client(await phone(client, register)), Client(await phone(client, register, "bob"))
    a, b = alice.phone, bob.phone
    room_id = (await a.ok("POST", "/createRoom", {"preset": "public_chat"}))["room_id"]
    first = await alice.sync()
    assert first["device_one_time_keys_count"] == {"signed_curve25519": 0}
    assert first["device_unused_fallback_key_types"] == []
    await bob.sync()

    await b.ok("POST", f"/join/{room_id}", {})
    assert await alice.lists() == {"changed": [b.user_id]}
    assert await bob.lists() == {"changed": [a.user_id]}
    await b.upload(device_keys=b.device_keys())
    assert await alice.lists() == {"changed": [b.user_id]}
    assert await alice.lists() == {}

    await a.upload(
        one_time_keys=a.one_time_keys("A", "B"),
        fallback_keys={"signed_curve25519:F": a.one_time_key("F", fallback=True)},
    )
    told = await alice.sync()
    assert told["device_one_time_keys_count"] == {"signed_curve25519": 2}
    assert told["device_unused_fallback_key_types"] == ["signed_curve25519"]
    for _ in range(3):
        await b.claim(a)
    told = await alice.sync()
    assert told["device_one_time_keys_count"] == {"signed_curve25519": 0}
    assert told["device_unused_fallback_key_types"] == []

    await b.ok("PUT", "/sendToDevice/m.test/1", {"messages": {a.user_id: {"*": {"n": 0}}}})
    async with state["resources"].database.transaction() as session:
        for n in range(1, 105):
            message = {a.user_id: {a.device_id: f'{{"n": {n}}}'}}
            await deliver(session, state["streams"], b.user_id, "m.test", message)
    before = alice.since
    received = (await alice.sync())["to_device"]["events"]
    assert len(received) == 100
    alice.since = before  # the answer was lost
    assert (await alice.sync())["to_device"]["events"] == received
    received += (await alice.sync())["to_device"]["events"]
    assert received == [{"type": "m.test", "sender": b.user_id, "content": {"n": n}} for n in range(105)]
    assert not (await alice.sync()).get("to_device", {}).get("events")

    await b.ok("POST", f"/rooms/{room_id}/leave", {})
    assert await alice.lists() == {"left": [b.user_id]}
    await b.upload(device_keys=b.device_keys(algorithms=[]))
    assert await alice.lists() == {}
    assert await bob.lists() == {"changed": [b.user_id], "left": [a.user_id]}
