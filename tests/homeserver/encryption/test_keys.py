"""Device keys, one-time keys and fallback keys."""

import asyncio
from typing import Any

from httpx import AsyncClient

from identity_server.homeserver.encryption import for_sync
from tests.homeserver.conftest import Register
from tests.homeserver.encryption.phones import Phone, phone

SIGNED = "signed_curve25519"


def outcome(answer: Any) -> tuple[int, str | None]:
    return answer.status_code, answer.json().get("errcode")


async def unused_fallback_keys(state: dict[str, Any], of: Phone) -> list[str]:
    async with state["resources"].database.reading() as session:
        return (await for_sync.key_counts(session, of.user_id, of.device_id))[1]


async def test_what_a_device_uploads_others_see(client: AsyncClient, register: Register) -> None:
    alice, bob = await phone(client, register), await phone(client, register, "bob")
    keys = alice.device_keys()
    assert await alice.upload(device_keys=keys) == {SIGNED: 0}
    await alice.ok("PUT", "/devices/PHONE", {"display_name": "Alice's telephone"})
    seen = await bob.query(alice.user_id, "@nobody:hs.test", bob.user_id)
    assert seen["failures"] == {}
    assert seen["device_keys"] == {
        alice.user_id: {"PHONE": {**keys, "unsigned": {"device_display_name": "Alice's telephone"}}},
        bob.user_id: {},
    }
    asked = {"device_keys": {alice.user_id: ["LAPTOP"]}}
    assert (await bob.ok("POST", "/keys/query", asked))["device_keys"] == {alice.user_id: {}}
    # As clients of old ask.
    old = await bob.ok("POST", "/_matrix/client/unstable/keys/query", {"device_keys": {alice.user_id: {}}})
    assert old["device_keys"] == {alice.user_id: seen["device_keys"][alice.user_id]}


async def test_keys_of_another_device_or_of_no_form_are_refused(client: AsyncClient, register: Register) -> None:
    alice = await phone(client, register)
    good = alice.device_keys()
    for wrong in (
        {**good, "user_id": "@bob:hs.test"},
        {**good, "device_id": "LAPTOP"},
        {name: value for name, value in good.items() if name not in ("keys", "algorithms", "signatures")},
        {**good, "algorithms": "m.olm"},
        {**good, "keys": {"ed25519:PHONE": 1}},
        {**good, "signatures": {alice.user_id: "signed"}},
        {**good, "weight": 1.5},
        {**good, "number": 2**60},
        {**good, "deep": _nested(150)},
    ):
        assert outcome(await alice.ask("POST", "/keys/upload", {"device_keys": wrong})) == (400, "M_BAD_JSON"), wrong
    for wrong in (
        {"noalgorithm": "key"},
        {"a:b\0c": "key"},
        {f"{SIGNED}:A": 1},
        {f"{SIGNED}:A": {"key": "x" * 9, "n": 0.5}},
    ):
        for kind in ("one_time_keys", "fallback_keys"):
            assert outcome(await alice.ask("POST", "/keys/upload", {kind: wrong})) == (400, "M_BAD_JSON"), wrong
    assert (await alice.query(alice.user_id))["device_keys"] == {alice.user_id: {}}


def _nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


async def test_one_time_keys_come_in_the_order_of_their_uploads_and_each_once(
    client: AsyncClient, register: Register, state: dict[str, Any]
) -> None:
    alice, bob = await phone(client, register), await phone(client, register, "bob")
    assert await alice.upload(one_time_keys=alice.one_time_keys("B")) == {SIGNED: 1}
    assert await alice.upload(one_time_keys=alice.one_time_keys("B", "A")) == {SIGNED: 2}
    fallback = {f"{SIGNED}:F": alice.one_time_key("F", fallback=True)}
    await alice.upload(fallback_keys=fallback)
    assert await unused_fallback_keys(state, alice) == [SIGNED]
    for expected in (alice.one_time_keys("B"), alice.one_time_keys("A"), fallback, fallback):
        assert await bob.claim(alice) == {alice.user_id: {"PHONE": expected}}
    assert await unused_fallback_keys(state, alice) == []
    # The same again is as used as it is; another one is not.
    await alice.upload(fallback_keys=fallback)
    assert await unused_fallback_keys(state, alice) == []
    await alice.upload(fallback_keys={f"{SIGNED}:G": alice.one_time_key("G", fallback=True)})
    assert await unused_fallback_keys(state, alice) == [SIGNED]


async def test_what_nobody_has_is_missing_from_what_is_claimed(client: AsyncClient, register: Register) -> None:
    alice = await phone(client, register)
    wanted = {alice.user_id: {"PHONE": SIGNED, "NONE": SIGNED}, "@nobody:hs.test": {"PHONE": SIGNED}}
    assert await alice.ok("POST", "/keys/claim", {"one_time_keys": wanted}) == {"one_time_keys": {}, "failures": {}}
    await alice.upload(one_time_keys={"plain:1": "key"})
    wanted = {alice.user_id: {"PHONE": "plain"}}
    claimed = await alice.ok("POST", "/keys/claim", {"one_time_keys": wanted})
    assert claimed["one_time_keys"] == {alice.user_id: {"PHONE": {"plain:1": "key"}}}


async def test_another_key_under_a_known_id_is_refused_and_nothing_of_the_upload_stays(
    client: AsyncClient, register: Register
) -> None:
    alice = await phone(client, register)
    await alice.upload(one_time_keys=alice.one_time_keys("A"))
    other = {f"{SIGNED}:A": alice.one_time_key("other"), **alice.one_time_keys("B")}
    answer = await alice.ask("POST", "/keys/upload", {"one_time_keys": other})
    assert outcome(answer) == (400, "M_INVALID_PARAM")
    assert answer.json()["error"] == "One time key signed_curve25519:A already exists"
    assert await alice.upload() == {SIGNED: 1}
    two = {f"{SIGNED}:{name}": alice.one_time_key(name, fallback=True) for name in "FG"}
    assert outcome(await alice.ask("POST", "/keys/upload", {"fallback_keys": two})) == (400, "M_INVALID_PARAM")


async def test_no_key_is_given_out_twice_however_many_claim_at_once(client: AsyncClient, register: Register) -> None:
    alice, bob = await phone(client, register), await phone(client, register, "bob")
    laptop = await alice.sign_in("LAPTOP")
    names = [f"K{number}" for number in range(20)]
    for device in (alice, laptop):
        await device.upload(one_time_keys=device.one_time_keys(*names))
    claims = await asyncio.gather(*(bob.claim(alice, laptop) for _ in range(30)))
    for device in (alice, laptop):
        given = [key for claim in claims for key in claim.get(alice.user_id, {}).get(device.device_id, {})]
        assert sorted(given) == sorted(f"{SIGNED}:{name}" for name in names)


async def test_with_the_device_its_keys_go(client: AsyncClient, register: Register) -> None:
    alice = await phone(client, register)
    laptop = await alice.sign_in("LAPTOP")
    await laptop.upload(
        device_keys=laptop.device_keys(),
        one_time_keys=laptop.one_time_keys("A"),
        fallback_keys={f"{SIGNED}:F": laptop.one_time_key("F")},
    )
    await laptop.ok("POST", "/logout")
    assert (await alice.query(alice.user_id))["device_keys"] == {alice.user_id: {}}
    assert await alice.claim(laptop) == {}
