import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from identity_server.homeserver.push.gateway import PUSH, Gateways
from identity_server.matrix.http import Answer
from identity_server.runtime.clock import FakeClock
from tests.homeserver.sync.conftest import Meet, Person

URL = "https://push.test/_matrix/push/v1/notify"


@dataclass
class Gateway:
    """Keeps what it is told; ``rejected``: the keys that it wants no more of."""

    told: list[dict[str, Any]] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)

    async def request(self, method: str, target: Any, path: str = "", *, json: Any = None, **_: Any) -> Answer:
        assert (method, target) == ("POST", URL)
        self.told.append(json["notification"])
        return Answer(200, {}, b'{"rejected": ["key"]}' if self.rejected else b'{"rejected": []}')


@pytest.fixture
def gateway(state: dict[str, Any]) -> Gateway:
    gateway = Gateway()
    resources = state["resources"]
    gateways = Gateways(resources.database, gateway, resources.clock)  # type: ignore[arg-type]  # a stand-in
    state["tasks"]._handlers[PUSH] = gateways.run
    return gateway


async def soon(is_so: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.05)


def pusher(**data: Any) -> dict[str, Any]:
    return {
        "kind": "http",
        "app_id": "org.example.app",
        "pushkey": "key",
        "app_display_name": "App",
        "device_display_name": "Phone",
        "lang": "en",
        "data": {"url": URL, **data},
    }


async def test_a_gateway_is_told_of_what_the_rules_say(
    alice: Person, bob: Person, meet: Meet, gateway: Gateway, clock: FakeClock
) -> None:
    carol = await meet("carol")
    room_id = await alice.create_room(preset="public_chat", name="Tea")
    await bob.join(room_id)
    await carol.join(room_id)
    await alice.say(room_id, "before there was a pusher")
    await bob.do("POST", "/pushers/set", pusher(format="event_id_only", custom=1))
    await bob.say(room_id, "one's own")
    await alice.say(room_id, "no notice", msgtype="m.notice")
    event_id = await alice.say(room_id, "bob!", **{"m.mentions": {"user_ids": [bob.user_id]}})
    await soon(lambda: gateway.told)
    device = {
        "app_id": "org.example.app",
        "pushkey": "key",
        "pushkey_ts": clock.now_ms() // 1000,
        "data": {"format": "event_id_only", "custom": 1},
        "tweaks": {"sound": "default", "highlight": True},
    }
    notification = {"event_id": event_id, "room_id": room_id, "counts": {"unread": 1}, "devices": [device]}
    assert gateway.told == [{**notification, "prio": "high"}]
    await bob.do("POST", "/pushers/set", pusher())
    await alice.say(room_id, "plainly")
    await soon(lambda: len(gateway.told) == 2)
    told = gateway.told[1]
    assert (told["type"], told["sender"], told["room_name"], told["prio"]) == (
        "m.room.message",
        alice.user_id,
        "Tea",
        "low",
    )
    assert told["content"]["body"] == "plainly"
    invited = await alice.create_room(invite=[bob.user_id])
    await soon(lambda: len(gateway.told) == 3)
    assert (gateway.told[2]["room_id"], gateway.told[2]["user_is_target"]) == (invited, True)
    gateway.rejected.append("key")
    await alice.say(room_id, "last")
    async with asyncio.timeout(20):
        while (await bob.do("GET", "/pushers"))["pushers"]:
            await asyncio.sleep(0.05)


async def test_notifications_are_listed_the_latest_first(alice: Person, bob: Person) -> None:
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    said = [await alice.say(room_id, f"{number}") for number in range(3)]
    mentioned = await alice.say(room_id, "bob!", **{"m.mentions": {"user_ids": [bob.user_id]}})
    await bob.say(room_id, "one's own")
    await bob.do("POST", f"/rooms/{room_id}/receipt/m.read/{said[1]}", {})
    first = await bob.do("GET", "/notifications", limit=2)
    shown = [(listed["event"]["event_id"], listed["read"]) for listed in first["notifications"]]
    assert shown == [(mentioned, False), (said[2], False)]
    second = await bob.do("GET", "/notifications", limit=2, **{"from": first["next_token"]})
    shown = [(listed["event"]["event_id"], listed["read"]) for listed in second["notifications"]]
    assert shown == [(said[1], True), (said[0], True)]
    assert second["notifications"][0]["room_id"] == room_id
    highlighted = await bob.do("GET", "/notifications", only="highlight")
    assert [listed["event"]["event_id"] for listed in highlighted["notifications"]] == [mentioned]
    assert (await bob.ask("GET", "/notifications", **{"from": "x"})).status_code == 400
