from typing import Any

from httpx import AsyncClient

from identity_server.matrix.signing import sign_json
from tests.homeserver.conftest import Register
from tests.homeserver.encryption.phones import Identity, Phone, phone, public, signing_key

UPLOAD = "/keys/device_signing/upload"


def outcome(answer: Any) -> tuple[int, str | None]:
    return answer.status_code, answer.json().get("errcode")


async def confirmed(of: Phone, body: dict[str, Any]) -> Any:
    """Upload ``body`` through the round that asks for the password."""
    first = await of.ask("POST", UPLOAD, body)
    assert first.status_code == 401, first.text
    assert first.json()["flows"] == [{"stages": ["m.login.password"]}]
    auth = {
        "type": "m.login.password",
        "identifier": {"type": "m.id.user", "user": of.user_id},
        "password": "correct horse",
        "session": first.json()["session"],
    }
    return await of.ok("POST", UPLOAD, {**body, "auth": auth})


async def test_the_first_keys_and_the_same_again_need_no_password_others_do(
    client: AsyncClient, register: Register
) -> None:
    alice, bob = await phone(client, register), await phone(client, register, "bob")
    first, second = Identity(alice.user_id), Identity(alice.user_id, "second")
    for _ in range(2):
        assert await alice.ok("POST", UPLOAD, first.keys()) == {}
    only_master = {"master_key": second.master_key}
    assert (await alice.ask("POST", UPLOAD, only_master)).status_code == 401
    seen = await alice.query(alice.user_id)
    for usage in ("master", "self_signing", "user_signing"):
        assert seen[f"{usage}_keys"] == {alice.user_id: first.keys()[f"{usage}_key"]}
    seen = await bob.query(alice.user_id)
    assert seen["master_keys"] == {alice.user_id: first.master_key}
    assert seen["user_signing_keys"] == {}

    await confirmed(alice, only_master)
    seen = await alice.query(alice.user_id)
    assert seen["master_keys"] == {alice.user_id: second.master_key}
    # What the former master key signed is worth nothing.
    assert seen["self_signing_keys"] == seen["user_signing_keys"] == {}


async def test_keys_that_the_master_key_did_not_sign_are_refused(client: AsyncClient, register: Register) -> None:
    alice = await phone(client, register)
    keys, others = Identity(alice.user_id).keys(), Identity(alice.user_id, "second").keys()
    alone = {"self_signing_key": keys["self_signing_key"]}
    assert outcome(await alice.ask("POST", UPLOAD, alone)) == (400, "M_MISSING_PARAM")
    assert outcome(await alice.ask("POST", UPLOAD, {})) == (400, "M_MISSING_PARAM")
    mixed = {**keys, "user_signing_key": others["user_signing_key"]}
    assert outcome(await alice.ask("POST", UPLOAD, mixed)) == (400, "M_INVALID_SIGNATURE")
    assert (await alice.query(alice.user_id))["master_keys"] == {}
    await alice.ok("POST", UPLOAD, {"master_key": keys["master_key"]})
    await confirmed(alice, alone)
    assert (await alice.query(alice.user_id))["self_signing_keys"] == {alice.user_id: keys["self_signing_key"]}


async def test_a_key_of_no_form_is_refused(client: AsyncClient, register: Register) -> None:
    alice = await phone(client, register)
    good = Identity(alice.user_id).master_key
    name = next(iter(good["keys"]))
    for wrong in (
        {**good, "user_id": "@bob:hs.test"},
        {**good, "usage": ["self_signing"]},
        {**good, "keys": {}},
        {**good, "keys": {name: "other"}},
        {**good, "keys": {"ed25519:short": "short"}},
        {**good, "keys": {name: good["keys"][name], "ed25519:b": "b"}},
        "key",
    ):
        assert outcome(await alice.ask("POST", UPLOAD, {"master_key": wrong})) == (400, "M_BAD_JSON"), wrong


async def test_no_key_bears_the_name_of_a_device_nor_a_device_that_of_a_key(
    client: AsyncClient, register: Register
) -> None:
    identity = Identity("@alice:hs.test")
    alice = await phone(client, register, device_id=public(identity.master))
    assert outcome(await alice.ask("POST", UPLOAD, identity.keys())) == (403, "M_FORBIDDEN")
    second = Identity(alice.user_id, "second")
    await alice.ok("POST", UPLOAD, second.keys())
    login = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "alice"}}
    body = {**login, "password": "correct horse", "device_id": public(second.self_signing)}
    assert outcome(await alice.ask("POST", "/login", body)) == (403, "M_FORBIDDEN")


async def test_signatures_are_seen_by_those_whom_they_concern(client: AsyncClient, register: Register) -> None:
    alice, bob = await phone(client, register), await phone(client, register, "bob")
    carol = await phone(client, register, "carol")
    hers, his = Identity(alice.user_id), Identity(bob.user_id)
    device_keys = alice.device_keys()
    await alice.upload(device_keys=device_keys)
    await alice.ok("POST", UPLOAD, hers.keys())
    await bob.ok("POST", UPLOAD, his.keys())

    signed_device = sign_json(device_keys, alice.user_id, hers.self_signing)
    signed_master = sign_json(hers.master_key, alice.user_id, alice.key)
    signed_bob = sign_json(his.master_key, alice.user_id, hers.user_signing)
    upload = {
        alice.user_id: {"PHONE": signed_device, public(hers.master): signed_master},
        bob.user_id: {public(his.master): signed_bob},
    }
    for path in ("/keys/signatures/upload", "/_matrix/client/unstable/keys/signatures/upload"):
        assert await alice.ok("POST", path, upload) == {"failures": {}}

    for viewer in (alice, bob):
        seen = await viewer.query(alice.user_id)
        assert seen["device_keys"][alice.user_id]["PHONE"] == {**signed_device, "unsigned": {}}
        assert seen["master_keys"][alice.user_id] == signed_master
    assert (await alice.query(bob.user_id))["master_keys"] == {bob.user_id: signed_bob}
    for viewer in (bob, carol):
        assert (await viewer.query(bob.user_id))["master_keys"] == {bob.user_id: his.master_key}

    # Other keys of the device: what was signed is no more.
    other = alice.device_keys(algorithms=["m.olm.v1.curve25519-aes-sha2"])
    await alice.upload(device_keys=other)
    seen = await bob.query(alice.user_id)
    assert seen["device_keys"][alice.user_id]["PHONE"] == {**other, "unsigned": {}}
    assert seen["master_keys"][alice.user_id] == hers.master_key


async def test_wrong_signatures_are_named_and_right_ones_beside_them_taken(
    client: AsyncClient, register: Register
) -> None:
    alice, bob = await phone(client, register), await phone(client, register, "bob")
    hers, his = Identity(alice.user_id), Identity(bob.user_id)
    laptop = await alice.sign_in("LAPTOP")
    for device in (alice, laptop):
        await device.upload(device_keys=device.device_keys())
    await bob.ok("POST", UPLOAD, his.keys())

    nobody = signing_key("nobody")
    early = {alice.user_id: {"PHONE": sign_json(alice.device_keys(), alice.user_id, hers.self_signing)}}
    failures = (await alice.ok("POST", "/keys/signatures/upload", early))["failures"]
    assert failures[alice.user_id]["PHONE"]["errcode"] == "M_NOT_FOUND"

    await alice.ok("POST", UPLOAD, hers.keys())
    forged = sign_json(alice.device_keys(), alice.user_id, hers.self_signing)
    forged["signatures"][alice.user_id][hers.self_signing.key_id] = "c2lnbmF0dXJl"
    upload = {
        alice.user_id: {
            "PHONE": forged,
            "LAPTOP": sign_json(laptop.device_keys(), alice.user_id, hers.self_signing),
            "GONE": sign_json({"device_id": "GONE"}, alice.user_id, hers.self_signing),
            public(hers.master): sign_json(hers.master_key, alice.user_id, nobody),
        },
        bob.user_id: {
            public(his.master): sign_json({**his.master_key, "more": 1}, alice.user_id, hers.user_signing),
            "PHONE": sign_json(bob.device_keys(), alice.user_id, hers.user_signing),
        },
    }
    failures = (await alice.ok("POST", "/keys/signatures/upload", upload))["failures"]
    assert {user: {key: error["errcode"] for key, error in keys.items()} for user, keys in failures.items()} == {
        alice.user_id: {
            "PHONE": "M_INVALID_SIGNATURE",
            "GONE": "M_NOT_FOUND",
            public(hers.master): "M_INVALID_SIGNATURE",
        },
        bob.user_id: {public(his.master): "M_INVALID_PARAM", "PHONE": "M_NOT_FOUND"},
    }
    devices = (await bob.query(alice.user_id))["device_keys"][alice.user_id]
    assert hers.self_signing.key_id in devices["LAPTOP"]["signatures"][alice.user_id]
    assert hers.self_signing.key_id not in devices["PHONE"]["signatures"][alice.user_id]
    for wrong in ({alice.user_id: "key"}, {alice.user_id: {"PHONE": "key"}}):
        assert (await alice.ask("POST", "/keys/signatures/upload", wrong)).status_code in (200, 400)
