"""Keys of users elsewhere, and ours for other servers."""

from typing import Any

import pytest
from httpx import AsyncClient

from identity_server.homeserver.encryption.device_lists.follow import DeviceListFollower
from identity_server.homeserver.encryption.device_lists.resync import DeviceListResync
from identity_server.homeserver.encryption.incoming import incoming_edus
from identity_server.matrix.errors import MatrixError
from identity_server.matrix.signing import sign_json
from identity_server.runtime.clock import FakeClock
from tests.homeserver.conftest import Register
from tests.homeserver.encryption.elsewhere import NAME, OtherServer, ask_as_server
from tests.homeserver.encryption.phones import Identity, meet, move, phone, public
from tests.homeserver.encryption.test_device_lists import now

BOB = f"@bob:{NAME}"


def keys_of(device_id: str, user_id: str = BOB, **more: Any) -> dict[str, Any]:
    return {"user_id": user_id, "device_id": device_id, "algorithms": [], "keys": {}, **more}


async def tell(state: dict[str, Any], edu_type: str, *contents: dict[str, Any], origin: str = NAME) -> None:
    """Have the other server send EDUs, in one transaction."""
    handle = incoming_edus(state["streams"], state["resources"].clock, server_name="hs.test")[edu_type]
    async with state["resources"].database.transaction() as session:
        for content in contents:
            await handle(session, origin, content)


async def test_of_a_stranger_the_own_server_is_asked_each_time(
    client: AsyncClient, register: Register, other: OtherServer
) -> None:
    alice = await phone(client, register)
    identity = Identity(BOB)
    other.answers["keys/query"] = {
        "device_keys": {
            BOB: {"B": keys_of("B", unsigned={"device_display_name": "B"}), "FORGED": keys_of("OTHER"), "BAD": 1},
            alice.user_id: {"FORGED": keys_of("FORGED", alice.user_id)},
        },
        "master_keys": {BOB: identity.master_key, alice.user_id: Identity(alice.user_id).master_key},
        "self_signing_keys": {BOB: {**identity.keys()["self_signing_key"], "user_id": alice.user_id}},
        "user_signing_keys": {BOB: identity.keys()["user_signing_key"]},
    }
    for _ in range(2):
        assert await alice.ok("POST", "/keys/query", {"device_keys": {BOB: ["B"], "@x:gone.test": []}}) == {
            "device_keys": {BOB: {"B": keys_of("B", unsigned={"device_display_name": "B"})}},
            "master_keys": {BOB: identity.master_key},
            "self_signing_keys": {},
            "user_signing_keys": {},
            "failures": {"gone.test": {"status": 503, "message": "The server could not be reached"}},
        }
    assert [asked for asked in other.asked if asked[0] == NAME] == [
        (NAME, "keys/query", {"device_keys": {BOB: ["B"]}})
    ] * 2
    other.answers["keys/query"] = 403
    assert (await alice.query(BOB))["failures"][NAME]["status"] == 403


async def test_keys_of_devices_elsewhere_are_claimed_there(
    client: AsyncClient, register: Register, other: OtherServer
) -> None:
    alice = await phone(client, register)
    await alice.upload(one_time_keys=alice.one_time_keys("A"))
    wanted = {
        alice.user_id: {"PHONE": "signed_curve25519"},
        BOB: {"B": "signed_curve25519", "C": "signed_curve25519"},
        "@x:gone.test": {"X": "signed_curve25519"},
    }
    key = {"signed_curve25519:1": {"key": "…", "signatures": {}}}
    other.answers["keys/claim"] = {"one_time_keys": {BOB: {"B": key, "C": {"a:1": 0.5}, "D": key}, alice.user_id: {}}}
    answer = await alice.ok("POST", "/keys/claim", {"one_time_keys": wanted, "timeout": 10_000})
    assert answer["one_time_keys"] == {alice.user_id: {"PHONE": alice.one_time_keys("A")}, BOB: {"B": key}}
    assert answer["failures"].keys() == {"gone.test"}


async def test_the_devices_of_who_shares_a_room_are_kept_and_follow_what_is_told(
    client: AsyncClient, register: Register, state: dict[str, Any], other: OtherServer
) -> None:
    alice = await phone(client, register)
    await meet(state, alice.user_id, BOB)
    identity = Identity(BOB)
    other.devices(BOB, 7, {"B": {"keys": keys_of("B")}, "NONE": {}}, master_key=identity.master_key)
    first = await alice.query(BOB)
    assert first["device_keys"] == {BOB: {"B": {**keys_of("B"), "unsigned": {}}}}
    assert first["master_keys"] == {BOB: identity.master_key}
    assert await alice.query(BOB) == first
    assert other.asked == [(NAME, f"devices/{BOB}", None)]

    since = await now(state)
    update = {"user_id": BOB, "device_id": "C", "stream_id": 9, "prev_id": [7], "keys": keys_of("C")}
    told_before = {**update, "device_id": "OLD"}
    await tell(state, "m.device_list_update", {**update, "device_display_name": "Sea"}, told_before)
    assert (await alice.ok("GET", "/keys/changes", **{"from": f"s{since}", "to": "s0"}))["changed"] == [BOB]
    gone = {"user_id": BOB, "device_id": "B", "stream_id": 10, "prev_id": [9], "deleted": True}
    await tell(state, "m.device_list_update", gone)
    second = Identity(BOB, "second").keys()
    await tell(state, "m.signing_key_update", {"user_id": BOB, **second})
    seen = await alice.query(BOB)
    assert seen["device_keys"] == {BOB: {"C": {**keys_of("C"), "unsigned": {"device_display_name": "Sea"}}}}
    assert seen["self_signing_keys"] == {BOB: second["self_signing_key"]}
    assert seen["user_signing_keys"] == {}
    assert len(other.asked) == 1

    # What alice signs of it, alice sees.
    hers = Identity(alice.user_id)
    await alice.ok("POST", "/keys/device_signing/upload", hers.keys())
    signed = sign_json(second["master_key"], alice.user_id, hers.user_signing)
    upload = {BOB: {public(Identity(BOB, "second").master): signed}}
    assert await alice.ok("POST", "/keys/signatures/upload", upload) == {"failures": {}}
    assert (await alice.query(BOB))["master_keys"] == {BOB: signed}


async def test_a_gap_in_what_is_told_is_filled_by_asking(
    client: AsyncClient, register: Register, state: dict[str, Any], other: OtherServer, clock: FakeClock
) -> None:
    alice = await phone(client, register)
    await meet(state, alice.user_id, BOB)
    resync = DeviceListResync(state["resources"].database, other, "hs.test")  # type: ignore[arg-type]  # a stand-in
    # Of a list that is not known yet the first update makes it known.
    update: dict[str, Any] = {"user_id": BOB, "device_id": "B", "stream_id": 2, "keys": keys_of("B")}
    await tell(state, "m.device_list_update", update)
    await resync.run_due(clock.now_ms())
    assert other.asked == [(NAME, f"devices/{BOB}", None)]
    other.devices(BOB, 2, {"B": {"keys": keys_of("B")}})
    await resync.run_due(clock.now_ms())  # it pauses
    assert len(other.asked) == 1
    clock.advance(hours=1)
    await resync.run_due(clock.now_ms())
    assert len(other.asked) == 2
    assert (await alice.query(BOB))["device_keys"][BOB].keys() == {"B"}

    await tell(state, "m.device_list_update", {**update, "device_id": "D", "stream_id": 4, "prev_id": [3]})
    other.devices(BOB, 3, {"B": {"keys": keys_of("B")}, "C": {"keys": keys_of("C")}})
    # Who asks is given what there is, but it is older than what was told.
    assert (await alice.query(BOB))["device_keys"][BOB].keys() == {"B", "C"}
    other.devices(BOB, 4, {"C": {"keys": keys_of("C")}, "D": {"keys": keys_of("D")}})
    assert (await alice.query(BOB))["device_keys"][BOB].keys() == {"C", "D"}
    asked = len(other.asked)
    await alice.query(BOB)
    assert len(other.asked) == asked

    # While nobody answers, nobody is told that there are no devices.
    await tell(state, "m.device_list_update", {**update, "stream_id": 9, "prev_id": [8]})
    other.answers = {}
    seen = await alice.query(BOB)
    assert seen["device_keys"] == {}
    assert seen["failures"].keys() == {NAME}


async def test_a_list_is_kept_only_while_a_room_is_shared(
    client: AsyncClient, register: Register, state: dict[str, Any], other: OtherServer
) -> None:
    alice = await phone(client, register)
    follower = DeviceListFollower(state["resources"].database, state["streams"], "hs.test")
    update = {"user_id": BOB, "device_id": "B", "stream_id": 2, "keys": keys_of("B")}
    since = await now(state)
    await tell(state, "m.device_list_update", update)  # a stranger's
    await tell(state, "m.signing_key_update", {"user_id": BOB, "master_key": Identity(BOB).master_key})
    assert await now(state) == since

    await meet(state, alice.user_id, BOB)
    other.devices(BOB, 2, {"B": {"keys": keys_of("B")}})
    await alice.query(BOB)
    # Gone and back: what happened meanwhile nobody told.
    await move(state, "!room", BOB, "leave")
    await move(state, "!room", BOB, "join")
    other.devices(BOB, 3, {"C": {"keys": keys_of("C")}})
    assert (await alice.query(BOB))["device_keys"][BOB].keys() == {"C"}
    await move(state, "!room", alice.user_id, "leave")
    other.answers["keys/query"] = {"device_keys": {BOB: {"D": keys_of("D")}}}
    assert (await alice.query(BOB))["device_keys"][BOB].keys() == {"D"}
    await follower.run_due(0)
    await move(state, "!room", alice.user_id, "join")
    other.answers = {}
    assert (await alice.query(BOB))["device_keys"] == {}


async def test_updates_that_are_not_the_origins_to_tell_are_refused(
    client: AsyncClient, register: Register, state: dict[str, Any]
) -> None:
    alice = await phone(client, register)
    await meet(state, alice.user_id, BOB)
    good: dict[str, Any] = {"user_id": BOB, "device_id": "B", "stream_id": 2}
    since = await now(state)
    for origin, wrong in (
        ("third.test", good),
        (NAME, {**good, "user_id": alice.user_id}),
        (NAME, {**good, "user_id": 1}),
        (NAME, {**good, "stream_id": "2"}),
        (NAME, {**good, "stream_id": 2**60}),
        (NAME, {**good, "device_id": "A\0"}),
    ):
        with pytest.raises(MatrixError):
            await tell(state, "m.device_list_update", wrong, origin=origin)
    with pytest.raises(MatrixError):
        await tell(state, "m.signing_key_update", {"user_id": BOB}, origin="third.test")
    assert await now(state) == since


async def test_other_servers_are_told_our_users_keys_and_given_them(client: AsyncClient, register: Register) -> None:
    alice = await phone(client, register)
    await alice.sign_in("KEYLESS")
    keys, identity = alice.device_keys(), Identity(alice.user_id)
    await alice.upload(device_keys=keys, one_time_keys=alice.one_time_keys("A"))
    await alice.ok("PUT", "/devices/PHONE", {"display_name": "telephone"})
    await alice.ok("POST", "/keys/device_signing/upload", identity.keys())
    public_keys = identity.keys()

    listed = (await ask_as_server(client, "GET", f"devices/{alice.user_id}")).json()
    assert listed.pop("stream_id") > 0
    assert listed == {
        "user_id": alice.user_id,
        "devices": [{"device_id": "PHONE", "device_display_name": "telephone", "keys": keys}],
        "master_key": public_keys["master_key"],
        "self_signing_key": public_keys["self_signing_key"],
    }
    assert (await ask_as_server(client, "GET", "devices/@nobody:hs.test")).status_code == 404

    asked = {"device_keys": {alice.user_id: [], BOB: [], "@nobody:hs.test": []}}
    assert (await ask_as_server(client, "POST", "keys/query", asked)).json() == {
        "device_keys": {alice.user_id: {"PHONE": {**keys, "unsigned": {"device_display_name": "telephone"}}}},
        "master_keys": {alice.user_id: public_keys["master_key"]},
        "self_signing_keys": {alice.user_id: public_keys["self_signing_key"]},
    }
    wanted = {"one_time_keys": {alice.user_id: {"PHONE": "signed_curve25519"}, BOB: {"B": "signed_curve25519"}}}
    for expected in ({alice.user_id: {"PHONE": alice.one_time_keys("A")}}, {}):
        answer = await ask_as_server(client, "POST", "keys/claim", wanted)
        assert answer.json() == {"one_time_keys": expected}
    assert (await client.post("/_matrix/federation/v1/user/keys/claim", json=wanted)).status_code == 401
