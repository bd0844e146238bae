from typing import Any

import pytest
from httpx import AsyncClient

from identity_server.homeserver.access.removal import DeviceWatchers
from identity_server.runtime.clock import FakeClock
from tests.homeserver.conftest import Register, bearing
from tests.homeserver.test_accounts import V3, log_in, outcome, who_am_i


def by_password(session: str | None = None, password: str = "correct horse", user: str = "alice") -> dict[str, Any]:
    identifier = {"type": "m.id.user", "user": user}
    auth = {"type": "m.login.password", "identifier": identifier, "password": password}
    return {"auth": {**auth, "session": session} if session else auth}


async def devices(client: AsyncClient, login: dict[str, Any]) -> dict[str, Any]:
    answer = await client.get(f"{V3}/devices", headers=bearing(login))
    return {device["device_id"]: device for device in answer.json()["devices"]}


async def test_devices_are_listed_with_when_they_were_seen(
    client: AsyncClient, register: Register, clock: FakeClock, state: dict[str, Any]
) -> None:
    login = await register("alice", device_id="PHONE", initial_device_display_name="Alice's phone")
    first_ts = clock.now_ms()
    phone = {
        "device_id": "PHONE",
        "user_id": "@alice:hs.test",
        "display_name": "Alice's phone",
        "last_seen_ip": "127.0.0.1",
    }
    assert await devices(client, login) == {"PHONE": {**phone, "last_seen_ts": first_ts}}
    await state["last_seen"].write()
    clock.advance(seconds=30)
    one = await client.get(f"{V3}/devices/PHONE", headers=bearing(login))
    assert one.json() == {**phone, "last_seen_ts": first_ts}  # to the minute
    clock.advance(seconds=120)
    assert (await devices(client, login))["PHONE"]["last_seen_ts"] == clock.now_ms()
    other = (await log_in(client, device_id="LAPTOP")).json()
    both = await devices(client, login)
    # What is not known of the new one yet is empty: some clients do without the whole list if it is absent or null.
    unknown = {"display_name": "", "last_seen_ts": clock.now_ms(), "last_seen_ip": ""}
    laptop = {"device_id": "LAPTOP", "user_id": "@alice:hs.test", **unknown}
    assert both == {"PHONE": {**phone, "last_seen_ts": clock.now_ms()}, "LAPTOP": laptop}
    whois = (await client.get(f"{V3}/admin/whois/@alice:hs.test", headers=bearing(other))).json()
    [session] = whois["devices"]["PHONE"]["sessions"]
    assert session == {"connections": [{"ip": "127.0.0.1", "last_seen": clock.now_ms()}]}
    nosy = await client.get(f"{V3}/admin/whois/@bob:hs.test", headers=bearing(other))
    assert outcome(nosy) == (403, "M_FORBIDDEN")


async def test_a_device_can_be_renamed_and_others_devices_are_unknown(client: AsyncClient, register: Register) -> None:
    alice, bob = await register("alice", device_id="PHONE"), await register("bob")
    renaming = {"display_name": "Old phone"}
    answer = await client.put(f"{V3}/devices/PHONE", json=renaming, headers=bearing(alice))
    assert (answer.status_code, answer.json()) == (200, {})
    assert (await devices(client, alice))["PHONE"]["display_name"] == "Old phone"
    assert (await client.put(f"{V3}/devices/PHONE", json={}, headers=bearing(alice))).status_code == 200
    assert (await devices(client, alice))["PHONE"]["display_name"] == "Old phone"
    for answer in (
        await client.put(f"{V3}/devices/PHONE", json=renaming, headers=bearing(bob)),
        await client.get(f"{V3}/devices/PHONE", headers=bearing(bob)),
        await client.put(f"{V3}/devices/NONE", json=renaming, headers=bearing(alice)),
    ):
        assert outcome(answer) == (404, "M_NOT_FOUND")
    long = await client.put(f"{V3}/devices/PHONE", json={"display_name": "x" * 300}, headers=bearing(alice))
    assert outcome(long) == (400, "M_INVALID_PARAM")


@pytest.fixture
def gone(state: dict[str, Any]) -> list[tuple[str, list[str]]]:
    told: list[tuple[str, list[str]]] = []

    async def note(_session: Any, user_id: str, device_ids: list[str]) -> None:
        told.append((user_id, list(device_ids)))

    state["device_watchers"] = DeviceWatchers(gone=(note,))
    return told


async def test_deleting_a_device_takes_the_password_and_tells_who_has_to_know(
    client: AsyncClient, register: Register, gone: list[Any]
) -> None:
    alice = await register("alice", device_id="PHONE")
    laptop = (await log_in(client, device_id="LAPTOP")).json()
    url = f"{V3}/devices/LAPTOP"
    asked = await client.delete(url, headers=bearing(alice))
    assert asked.status_code == 401
    body = asked.json()
    assert body["flows"] == [{"stages": ["m.login.password"]}]
    wrong = await client.request(
        "DELETE", url, json=by_password(body["session"], password="wrong"), headers=bearing(alice)
    )
    assert outcome(wrong) == (401, "M_FORBIDDEN")
    assert wrong.json()["session"] == body["session"]
    assert wrong.json()["flows"] == body["flows"]
    assert gone == []
    right = await client.request("DELETE", url, json=by_password(body["session"]), headers=bearing(alice))
    assert (right.status_code, right.json()) == (200, {})
    assert gone == [("@alice:hs.test", ["LAPTOP"])]
    assert outcome(await who_am_i(client, laptop)) == (401, "M_UNKNOWN_TOKEN")
    assert (await who_am_i(client, alice)).status_code == 200


async def test_another_users_password_confirms_nothing(client: AsyncClient, register: Register) -> None:
    alice = await register("alice", device_id="PHONE")
    await register("bob")
    session = (await client.delete(f"{V3}/devices/PHONE", headers=bearing(alice))).json()["session"]
    answer = await client.request(
        "DELETE", f"{V3}/devices/PHONE", json=by_password(session, user="bob"), headers=bearing(alice)
    )
    assert outcome(answer) == (403, "M_FORBIDDEN")
    assert (await who_am_i(client, alice)).status_code == 200


async def test_what_was_confirmed_serves_one_operation_only(client: AsyncClient, register: Register) -> None:
    alice = await register("alice", device_id="PHONE")
    session = (await client.delete(f"{V3}/devices/PHONE", headers=bearing(alice))).json()["session"]
    for body in (by_password(session), {"auth": {"session": session}}):
        other = await client.post(f"{V3}/delete_devices", json={"devices": [], **body}, headers=bearing(alice))
        assert outcome(other) == (403, "M_FORBIDDEN")


async def test_several_devices_are_deleted_at_once(client: AsyncClient, register: Register, gone: list[Any]) -> None:
    alice = await register("alice", device_id="PHONE")
    for device_id in ("A", "B", "C"):
        await log_in(client, device_id=device_id)
    body = {"devices": ["A", "B", "NONE"], **by_password()}
    answer = await client.post(f"{V3}/delete_devices", json=body, headers=bearing(alice))
    assert (answer.status_code, answer.json()) == (200, {})
    assert gone == [("@alice:hs.test", ["A", "B"])]
    assert set(await devices(client, alice)) == {"PHONE", "C"}
    await client.post(f"{V3}/logout/all", headers=bearing(alice))
    assert gone[1:] == [("@alice:hs.test", ["C", "PHONE"])]


async def test_a_body_that_makes_no_sense_deletes_nothing(client: AsyncClient, register: Register) -> None:
    alice = await register("alice", device_id="PHONE")
    for auth, expected in (
        ({"type": "m.login.password"}, (401, "M_MISSING_PARAM")),
        ({"type": "m.login.password", "password": 3}, (401, "M_INVALID_PARAM")),
        ({"type": "m.login.password", "password": "x", "identifier": []}, (401, "M_INVALID_PARAM")),
        ({"type": "m.login.password", "password": "x", "user": "a\0"}, (401, "M_INVALID_PARAM")),
        ([], (400, "M_INVALID_PARAM")),
        ({"type": 5}, (400, "M_INVALID_PARAM")),
    ):
        answer = await client.request("DELETE", f"{V3}/devices/PHONE", json={"auth": auth}, headers=bearing(alice))
        assert outcome(answer) == expected, auth
    assert (await who_am_i(client, alice)).status_code == 200


async def test_a_device_id_that_cannot_be_is_refused(client: AsyncClient, register: Register) -> None:
    alice = await register("alice")
    for method in ("GET", "PUT", "DELETE"):
        answer = await client.request(method, f"{V3}/devices/%00", json={}, headers=bearing(alice))
        assert outcome(answer) == (400, "M_INVALID_PARAM")
