"""Who is told that keys have changed, here and elsewhere."""

import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from httpx import AsyncClient

from identity_server.homeserver.encryption import for_sync
from identity_server.homeserver.encryption.device_lists.follow import DeviceListFollower
from identity_server.homeserver.streams import current_position
from identity_server.homeserver.timeline import store as timeline
from identity_server.matrix.signing import sign_json
from tests.homeserver.conftest import Register
from tests.homeserver.encryption.phones import Identity, Phone, meet, move, phone, public
from tests.homeserver.encryption.test_to_device import outgoing

Told = Callable[[Phone, int], Awaitable[tuple[list[str], list[str]]]]


async def now(state: dict[str, Any]) -> int:
    async with state["resources"].database.reading() as session:
        return await current_position(session)


@pytest.fixture
def told(state: dict[str, Any]) -> Told:
    """``changed`` and ``left``, as /sync tells a user, and as /keys/changes does: they agree."""

    async def told(who: Phone, since: int) -> tuple[list[str], list[str]]:
        async with state["resources"].database.reading() as session:
            upto, rooms = await current_position(session), await timeline.joined_rooms(session, who.user_id)
            changed, left = await for_sync.device_list_changes(session, who.user_id, since, upto, joined_rooms=rooms)
        asked = await who.ok("GET", "/keys/changes", **{"from": f"s{since}_7", "to": f"s{upto}_9"})
        assert asked == {"changed": sorted(changed), "left": sorted(left)}
        return sorted(changed), sorted(left)

    return told


async def test_those_who_share_a_room_are_told_of_every_change(
    client: AsyncClient, register: Register, state: dict[str, Any], told: Told
) -> None:
    alice, bob = await phone(client, register), await phone(client, register, "bob")
    carol = await phone(client, register, "carol")
    await meet(state, alice.user_id, bob.user_id)
    identity = Identity(alice.user_id)
    device_keys = alice.device_keys()

    async def log_out_another() -> None:
        await (await alice.sign_in("TABLET")).ok("POST", "/logout")

    signed = {alice.user_id: {"PHONE": sign_json(device_keys, alice.user_id, identity.self_signing)}}
    changes: list[Callable[[], Awaitable[Any]]] = [
        lambda: alice.upload(device_keys=device_keys),
        lambda: alice.sign_in("LAPTOP"),
        lambda: alice.ok("PUT", "/devices/PHONE", {"display_name": "telephone"}),
        lambda: alice.ok("POST", "/keys/device_signing/upload", identity.keys()),
        lambda: alice.ok("POST", "/keys/signatures/upload", signed),
        log_out_another,
    ]
    for change in changes:
        since = await now(state)
        await change()
        assert await told(bob, since) == ([alice.user_id], [])
        assert await told(alice, since) == ([alice.user_id], [])
        assert await told(carol, since) == ([], [])
        assert await told(bob, await now(state)) == ([], [])
    # The same again is no change; one-time keys are none either.
    since = await now(state)
    await alice.upload(device_keys=device_keys, one_time_keys=alice.one_time_keys("A"))
    await alice.ok("POST", "/keys/device_signing/upload", identity.keys())
    await alice.ok("POST", "/keys/signatures/upload", signed)
    assert await now(state) == since


async def test_only_their_maker_is_told_of_signatures_on_others_and_of_the_key_that_makes_them(
    client: AsyncClient, register: Register, state: dict[str, Any], told: Told
) -> None:
    alice, bob = await phone(client, register), await phone(client, register, "bob")
    await meet(state, alice.user_id, bob.user_id)
    hers, his = Identity(alice.user_id), Identity(bob.user_id)
    keys = hers.keys()
    user_signing_key = keys.pop("user_signing_key")
    await alice.ok("POST", "/keys/device_signing/upload", keys)
    await bob.ok("POST", "/keys/device_signing/upload", his.keys())
    since = await now(state)
    auth = {"type": "m.login.password", "user": alice.user_id, "password": "correct horse"}
    await alice.ok("POST", "/keys/device_signing/upload", {"user_signing_key": user_signing_key, "auth": auth})
    assert await told(alice, since) == ([alice.user_id], [])
    assert await told(bob, since) == ([], [])
    since = await now(state)
    signed = {bob.user_id: {public(his.master): sign_json(his.master_key, alice.user_id, hers.user_signing)}}
    await alice.ok("POST", "/keys/signatures/upload", signed)
    assert await told(alice, since) == ([bob.user_id], [])
    assert await told(bob, since) == ([], [])


async def test_who_comes_has_changed_and_who_is_met_no_more_has_left(
    client: AsyncClient, register: Register, state: dict[str, Any], told: Told
) -> None:
    alice, bob = await phone(client, register), await phone(client, register, "bob")
    a, b, remote = alice.user_id, bob.user_id, "@dave:other.test"
    await meet(state, a, remote)
    since = await now(state)
    await move(state, "!room", b, "invite")
    assert await told(alice, since) == ([b], [])
    await move(state, "!room", b, "leave")
    assert await told(alice, since) == ([], [])  # never came

    await move(state, "!room", b, "join")
    assert await told(alice, since) == ([b], [])
    assert await told(bob, since) == ([a, remote], [])
    since = await now(state)
    await move(state, "!room", b, "join")  # another display name
    assert await told(alice, since) == ([], [])
    await meet(state, a, b, room_id="!other")
    await move(state, "!room", b, "leave")
    assert await told(alice, since) == ([b], [])  # another room is shared
    assert await told(bob, since) == ([a], [remote])
    since = await now(state)
    await bob.upload(device_keys=bob.device_keys())
    await move(state, "!other", b, "ban")
    assert await told(alice, since) == ([], [b])
    assert await told(bob, since) == ([b], [a])
    # Out and in again, with other keys meanwhile.
    await move(state, "!other", b, "join")
    assert await told(alice, since) == ([b], [])
    since = await now(state)
    await move(state, "!room", remote, "leave")
    await move(state, "!room", a, "leave")
    assert await told(alice, since) == ([], [remote])


async def test_tokens_that_are_none_are_refused(client: AsyncClient, register: Register) -> None:
    alice = await phone(client, register)
    for wrong in ({"from": "s1"}, {"to": "s1"}, {"from": "x", "to": "s1"}, {"from": "s1", "to": "s-1"}):
        assert (await alice.ask("GET", "/keys/changes", **wrong)).status_code == 400


async def test_other_servers_in_the_rooms_are_told_in_a_sequence(
    client: AsyncClient, register: Register, state: dict[str, Any]
) -> None:
    alice = await phone(client, register)
    await meet(state, alice.user_id, "@bob:other.test", "@carol:third.test")
    await move(state, "!room", "@carol:third.test", "leave")
    keys, identity = alice.device_keys(), Identity(alice.user_id)
    await alice.upload(device_keys=keys)
    await alice.ok("PUT", "/devices/PHONE", {"display_name": "telephone"})
    await alice.ok("POST", "/keys/device_signing/upload", identity.keys())
    await (await alice.sign_in("LAPTOP")).ok("POST", "/logout")

    updates = await outgoing(state, "m.device_list_update")
    assert {server for server, _ in updates} == {"other.test"}
    contents = [content for _, content in updates]
    for former, content in itertools.pairwise(contents):
        assert content["prev_id"] == [former["stream_id"]]
        assert content["stream_id"] > former["stream_id"]
    for content in contents:
        assert content.pop("stream_id")
        assert content.pop("prev_id")
        assert content.pop("user_id") == alice.user_id
    assert contents == [
        {"device_id": "PHONE", "keys": keys},
        {"device_id": "PHONE", "keys": keys, "device_display_name": "telephone"},
        {"device_id": "LAPTOP"},
        {"device_id": "LAPTOP", "deleted": True},
    ]
    public_keys = {name: key for name, key in identity.keys().items() if name != "user_signing_key"}
    signing = await outgoing(state, "m.signing_key_update")
    assert signing == [("other.test", {"user_id": alice.user_id, **public_keys})]


async def test_a_server_that_a_user_comes_to_is_told_of_the_users_devices_once(
    client: AsyncClient, register: Register, state: dict[str, Any]
) -> None:
    alice = await phone(client, register)
    follower = DeviceListFollower(state["resources"].database, state["streams"], "hs.test")
    keys = alice.device_keys()
    await alice.upload(device_keys=keys)
    await meet(state, "@bob:other.test", alice.user_id)
    await meet(state, "@bob:other.test", alice.user_id, room_id="!second")
    await follower.run_due(0)
    ((server, content),) = await outgoing(state, "m.device_list_update")
    assert server == "other.test"
    stream_id = content.pop("stream_id")
    assert content == {"user_id": alice.user_id, "device_id": "PHONE", "prev_id": [], "keys": keys}
    await meet(state, "@bob:other.test", alice.user_id, room_id="!third")
    await follower.run_due(0)
    assert len(await outgoing(state, "m.device_list_update")) == 1
    await alice.ok("PUT", "/devices/PHONE", {"display_name": "telephone"})
    assert (await outgoing(state, "m.device_list_update"))[-1][1]["prev_id"] == [stream_id]
    # Who has been told of a change since need not be told again.
    await meet(state, "@carol:third.test", alice.user_id, room_id="!fourth")
    await alice.ok("PUT", "/devices/PHONE", {"display_name": "phone"})
    await follower.run_due(0)
    assert [server for server, _ in await outgoing(state, "m.device_list_update")].count("third.test") == 1
