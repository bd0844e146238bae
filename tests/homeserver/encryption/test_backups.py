from typing import Any

from httpx import AsyncClient
from hypothesis import given
from hypothesis import strategies as st

from identity_server.homeserver.encryption.backups.replace import Standing, replaces
from tests.homeserver.conftest import Register
from tests.homeserver.encryption.phones import phone

ALGORITHM = "m.megolm_backup.v1.curve25519-aes-sha2"
BACKUP = {"algorithm": ALGORITHM, "auth_data": {"public_key": "abc", "signatures": {}}}
ROOM, SESSION = "!room:hs.test", "se/ss+ion"

standings = st.builds(Standing, st.booleans(), st.integers(0, 3), st.integers(0, 3))


def key(index: int = 0, forwarded: int = 0, *, verified: bool = False, data: Any = None) -> dict[str, Any]:
    return {
        "first_message_index": index,
        "forwarded_count": forwarded,
        "is_verified": verified,
        "session_data": {"ciphertext": "…"} if data is None else data,
    }


def outcome(answer: Any) -> tuple[int, str | None]:
    return answer.status_code, answer.json().get("errcode")


@given(standings, standings, standings)
def test_of_all_copies_the_best_is_kept_in_whatever_order_they_come(a: Standing, b: Standing, c: Standing) -> None:
    def kept(*copies: Standing) -> Standing:
        best = copies[0]
        for copy in copies[1:]:
            best = copy if replaces(copy, best) else best
        return best

    assert not replaces(a, a)
    assert kept(a, b, c) == kept(c, b, a) == kept(b, kept(a, c))
    best = kept(a, b, c)
    assert best.is_verified == any(each.is_verified for each in (a, b, c))
    if a.is_verified == b.is_verified:
        assert kept(a, b).first_message_index == min(a.first_message_index, b.first_message_index)
        if a.first_message_index == b.first_message_index:
            assert kept(a, b).forwarded_count == min(a.forwarded_count, b.forwarded_count)


async def test_versions_of_a_backup(client: AsyncClient, register: Register) -> None:
    alice, bob = await phone(client, register), await phone(client, register, "bob")
    for path in ("/room_keys/version", "/room_keys/version/1", "/room_keys/keys?version=1", "/room_keys/version/x"):
        assert outcome(await alice.ask("GET", path)) == (404, "M_NOT_FOUND")
    assert outcome(await alice.ask("PUT", "/room_keys/keys?version=1", {"rooms": {}})) == (404, "M_NOT_FOUND")

    first = (await alice.ok("POST", "/room_keys/version", BACKUP))["version"]
    second = (await alice.ok("POST", "/room_keys/version", {**BACKUP, "auth_data": "opaque"}))["version"]
    described = {**BACKUP, "version": first, "count": 0, "etag": "0"}
    assert await alice.ok("GET", f"/room_keys/version/{first}") == described
    assert await alice.ok("GET", "/room_keys/version") == {**described, "auth_data": "opaque", "version": second}
    assert outcome(await bob.ask("GET", f"/room_keys/version/{first}")) == (404, "M_NOT_FOUND")

    path, other = f"/room_keys/version/{first}", {**BACKUP, "auth_data": {"public_key": "def"}}
    assert await alice.ok("PUT", path, other) == {}
    assert await alice.ok("PUT", path, {**other, "version": first}) == {}
    assert (await alice.ok("GET", path))["auth_data"] == other["auth_data"]
    for wrong in ({**other, "version": second}, {**other, "algorithm": "other"}):
        assert outcome(await alice.ask("PUT", path, wrong)) == (400, "M_INVALID_PARAM")
    assert outcome(await alice.ask("PUT", path, {"algorithm": ALGORITHM})) == (400, "M_MISSING_PARAM")
    assert outcome(await alice.ask("PUT", "/room_keys/version/99", other)) == (404, "M_NOT_FOUND")

    for _ in range(2):
        assert await alice.ok("DELETE", f"/room_keys/version/{second}") == {}
    assert outcome(await alice.ask("GET", f"/room_keys/version/{second}")) == (404, "M_NOT_FOUND")
    assert (await alice.ok("GET", "/room_keys/version"))["version"] == first
    assert outcome(await alice.ask("DELETE", "/room_keys/version/99")) == (404, "M_NOT_FOUND")
    third = (await alice.ok("POST", "/room_keys/version", BACKUP))["version"]
    assert len({first, second, third}) == 3


async def test_keys_are_stored_and_fetched_one_by_one_by_room_and_all(client: AsyncClient, register: Register) -> None:
    alice = await phone(client, register)
    old = {"version": (await alice.ok("POST", "/room_keys/version", BACKUP))["version"]}
    now = {"version": (await alice.ok("POST", "/room_keys/version", BACKUP))["version"]}
    all_keys, of_room = "/room_keys/keys", f"/room_keys/keys/{ROOM}"
    one = f"{of_room}/se%2Fss%2Bion"

    wrong = await alice.ask("PUT", one, key(), **old)
    assert outcome(wrong) == (403, "M_WRONG_ROOM_KEYS_VERSION")
    assert wrong.json()["current_version"] == now["version"]
    assert outcome(await alice.ask("PUT", one, key(), version="99")) == (404, "M_NOT_FOUND")
    assert outcome(await alice.ask("PUT", one, key())) == (400, "M_MISSING_PARAM")
    for bad in ({**key(), "is_verified": 1}, {**key(), "first_message_index": 2**53}, {**key(), "session_data": 1}):
        assert outcome(await alice.ask("PUT", one, bad, **now)) == (400, "M_INVALID_PARAM"), bad
    assert (await alice.ask("PUT", f"{of_room}/a%00b", key(), **now)).status_code == 400

    assert await alice.ok("GET", all_keys, **now) == {"rooms": {}}
    assert await alice.ok("GET", of_room, **now) == {"sessions": {}}
    assert outcome(await alice.ask("GET", one, **now)) == (404, "M_NOT_FOUND")

    stored = await alice.ok("PUT", one, key(3), **now)
    assert stored["count"] == 1
    assert await alice.ok("GET", one, **now) == key(3)
    # Not better: nothing has changed.
    assert await alice.ok("PUT", one, key(4), **now) == stored
    better = await alice.ok("PUT", of_room, {"sessions": {SESSION: key(1), "other": key(9, data="opaque")}}, **now)
    assert better["count"] == 2
    assert better["etag"] != stored["etag"]
    rooms = {ROOM: {"sessions": {SESSION: key(7, verified=True)}}, "!b": {"sessions": {"s": key()}}}
    assert (await alice.ok("PUT", all_keys, {"rooms": rooms}, **now))["count"] == 3
    assert await alice.ok("GET", of_room, **now) == {
        "sessions": {SESSION: key(7, verified=True), "other": key(9, data="opaque")}
    }
    assert (await alice.ok("GET", all_keys, **now))["rooms"].keys() == {ROOM, "!b"}
    assert await alice.ok("GET", all_keys, **old) == {"rooms": {}}
    described = await alice.ok("GET", "/room_keys/version")
    assert described["count"] == 3

    removed = await alice.ok("DELETE", one, **now)
    assert removed["count"] == 2
    assert removed["etag"] != described["etag"]
    assert await alice.ok("DELETE", one, **now) == removed
    assert (await alice.ok("DELETE", of_room, **now))["count"] == 1
    assert (await alice.ok("DELETE", all_keys, **now))["count"] == 0
    for path in (one, of_room, all_keys):
        assert outcome(await alice.ask("DELETE", path, version="99")) == (404, "M_NOT_FOUND")
    await alice.ok("PUT", one, key(), **now)
    await alice.ok("DELETE", f"/room_keys/version/{now['version']}")
    again = {"version": (await alice.ok("POST", "/room_keys/version", BACKUP))["version"]}
    assert await alice.ok("GET", all_keys, **again) == {"rooms": {}}
