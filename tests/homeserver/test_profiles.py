from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from httpx import AsyncClient

from identity_server.matrix.http import Unreachable
from identity_server.matrix.json_api import Refused
from tests.homeserver.conftest import Register, bearing
from tests.homeserver.rooms.conftest import Person
from tests.homeserver.test_accounts import V3, outcome

ALICE = "@alice:hs.test"


@pytest.fixture
def person(client: AsyncClient, register: Register) -> Callable[[str], Awaitable[Person]]:
    async def person(username: str) -> Person:
        return Person(client, await register(username))

    return person


async def test_a_profile_holds_whatever_its_user_says(client: AsyncClient, person: Any) -> None:
    alice = await person("alice")
    assert await alice.do("GET", f"/profile/{ALICE}") == {"displayname": "alice"}
    for field, value in (
        ("displayname", "Alice \0 Wonderland"),
        ("avatar_url", "mxc://hs.test/abc"),
        ("m.tz", "Europe/London"),
        ("org.example.deep", {"a": [1, None, {"b": "c"}]}),
        ("org.example.null", None),
    ):
        assert await alice.do("PUT", f"/profile/{ALICE}/{field}", {field: value}) == {}
        assert (await client.get(f"{V3}/profile/{ALICE}/{field}")).json() == {field: value}
    assert set(await alice.do("GET", f"/profile/{ALICE}")) == {
        "displayname",
        "avatar_url",
        "m.tz",
        "org.example.deep",
        "org.example.null",
    }
    for _ in range(2):
        assert await alice.do("DELETE", f"/profile/{ALICE}/m.tz") == {}
    assert outcome(await client.get(f"{V3}/profile/{ALICE}/m.tz")) == (404, "M_NOT_FOUND")
    # As older clients take them back.
    assert await alice.do("PUT", f"/profile/{ALICE}/avatar_url", {"avatar_url": ""}) == {}
    assert outcome(await client.get(f"{V3}/profile/{ALICE}/avatar_url")) == (404, "M_NOT_FOUND")


async def test_what_does_not_belong_into_a_profile_is_refused(client: AsyncClient, person: Any) -> None:
    alice, bob = await person("alice"), await person("bob")
    for field, body, expected in (
        ("displayname", {}, (400, "M_MISSING_PARAM")),
        ("displayname", {"displayname": 3}, (400, "M_INVALID_PARAM")),
        ("displayname", {"displayname": None}, (400, "M_INVALID_PARAM")),
        ("displayname", {"displayname": "x" * 257}, (400, "M_INVALID_PARAM")),
        ("avatar_url", {"avatar_url": ["mxc://a/b"]}, (400, "M_INVALID_PARAM")),
        ("Upper", {"Upper": 1}, (400, "M_INVALID_PARAM")),
        ("a b", {"a b": 1}, (400, "M_INVALID_PARAM")),
        ("a." + "b" * 254, {"a." + "b" * 254: 1}, (400, "M_KEY_TOO_LARGE")),
        ("org.example.big", {"org.example.big": "x" * 65_536}, (400, "M_PROFILE_TOO_LARGE")),
        ("org.example.float", {"org.example.float": 1.5}, (400, "M_BAD_JSON")),
        ("org.example.huge", {"org.example.huge": 2**53}, (400, "M_BAD_JSON")),
    ):
        assert outcome(await alice.ask("PUT", f"/profile/{ALICE}/{field}", body)) == expected, field
    for method in ("PUT", "DELETE"):
        answer = await bob.ask(method, f"/profile/{ALICE}/displayname", {"displayname": "x"})
        assert outcome(answer) == (403, "M_FORBIDDEN")
        assert outcome(await client.request(method, f"{V3}/profile/{ALICE}/m.tz", json={"m.tz": "x"}))[0] == 401
    assert outcome(await client.get(f"{V3}/profile/@nobody:hs.test")) == (404, "M_NOT_FOUND")
    assert outcome(await client.get(f"{V3}/profile/nobody")) == (400, "M_INVALID_PARAM")
    assert await alice.do("GET", f"/profile/{ALICE}") == {"displayname": "alice"}


async def test_rooms_are_told_of_a_new_name_and_avatar(person: Any, state: dict[str, Any]) -> None:
    alice, bob = await person("alice"), await person("bob")
    rooms = [await bob.create_room(preset="public_chat") for _ in range(2)]
    for room_id in rooms:
        await alice.join(room_id)
    left = await bob.create_room(preset="public_chat")
    await alice.join(left)
    await alice.do("POST", f"/rooms/{left}/leave", {})
    await alice.do("PUT", f"/profile/{ALICE}/displayname", {"displayname": "Al"})
    await alice.do("PUT", f"/profile/{ALICE}/avatar_url", {"avatar_url": "mxc://hs.test/abc"})
    told = {"membership": "join", "displayname": "Al", "avatar_url": "mxc://hs.test/abc"}
    for room_id in rooms:
        assert await bob.state(room_id, "m.room.member", ALICE) == told
    assert (await bob.state(left, "m.room.member", ALICE))["membership"] == "leave"
    await alice.do("DELETE", f"/profile/{ALICE}/displayname")
    assert await bob.state(rooms[0], "m.room.member", ALICE) == {k: told[k] for k in ("membership", "avatar_url")}
    # Once more, as after a crash: nothing new is sent.
    before = (await bob.messages(rooms[0]))["chunk"][0]["event_id"]
    await state["spreading"].run({"user_id": ALICE})
    assert (await bob.messages(rooms[0]))["chunk"][0]["event_id"] == before


async def test_a_banned_user_changes_the_profile_all_the_same(person: Any) -> None:
    alice, bob = await person("alice"), await person("bob")
    room_id = await bob.create_room(preset="public_chat")
    await alice.join(room_id)
    await bob.do("POST", f"/rooms/{room_id}/ban", {"user_id": ALICE})
    await alice.do("PUT", f"/profile/{ALICE}/displayname", {"displayname": "Al"})
    assert (await bob.state(room_id, "m.room.member", ALICE))["membership"] == "ban"


async def test_others_profiles_are_asked_of_their_servers(
    client: AsyncClient, state: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[Any] = [
        {"displayname": "Bob", "avatar_url": None},
        {"m.tz": "Europe/Paris"},
        Refused(404, {}),
        Refused(403, {}),
        Refused(500, {}),
        Unreachable("away"),
    ]
    asked: list[str] = []

    async def get(_self: Any, server_name: str, path: str, **_more: Any) -> dict[str, Any]:
        asked.append(f"{server_name}{path}")
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return dict(answer)

    monkeypatch.setattr(type(state["federation_calls"]), "get", get)
    assert (await client.get(f"{V3}/profile/@bob:other.test")).json() == {"displayname": "Bob"}
    assert (await client.get(f"{V3}/profile/@bob:other.test/m.tz")).json() == {"m.tz": "Europe/Paris"}
    assert asked[1] == "other.test/_matrix/federation/v1/query/profile?user_id=%40bob%3Aother.test&field=m.tz"
    for expected in ((404, "M_NOT_FOUND"), (403, "M_FORBIDDEN"), (502, "M_UNKNOWN"), (502, "M_UNKNOWN")):
        assert outcome(await client.get(f"{V3}/profile/@bob:other.test")) == expected


# Ending an account


def password(value: str = "correct horse") -> dict[str, Any]:
    return {"type": "m.login.password", "password": value}


async def test_a_deactivated_account_leaves_everything(client: AsyncClient, person: Any) -> None:
    alice, bob = await person("alice"), await person("bob")
    room_id, invited = await bob.create_room(preset="public_chat"), await bob.create_room(invite=[ALICE])
    await alice.join(room_id)
    asked = await alice.ask("POST", "/account/deactivate")
    assert (asked.status_code, asked.json()["flows"]) == (401, [{"stages": ["m.login.password"]}])
    wrong = await alice.ask("POST", "/account/deactivate", {"auth": password("wrong")})
    assert outcome(wrong) == (401, "M_FORBIDDEN")
    done = await alice.ask("POST", "/account/deactivate", {"auth": password(), "erase": True})
    assert (done.status_code, done.json()) == (200, {"id_server_unbind_result": "success"})
    assert outcome(await alice.ask("GET", "/account/whoami")) == (401, "M_UNKNOWN_TOKEN")
    for where in (room_id, invited):
        assert (await bob.state(where, "m.room.member", ALICE))["membership"] == "leave"
    login = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "alice"}, **password()}
    login["type"] = "m.login.password"
    assert outcome(await client.post(f"{V3}/login", json=login)) == (403, "M_USER_DEACTIVATED")
    assert outcome(await client.get(f"{V3}/profile/{ALICE}")) == (404, "M_NOT_FOUND")
    taken = await client.get(f"{V3}/register/available", params={"username": "alice"})
    assert outcome(taken) == (400, "M_USER_IN_USE")


async def test_who_comes_later_does_not_read_what_the_erased_wrote(client: AsyncClient, person: Any) -> None:
    alice, bob, carol = await person("alice"), await person("bob"), await person("carol")
    room_id = await alice.create_room(preset="public_chat")
    await bob.join(room_id)
    said = await alice.say(room_id, "hello")
    await bob.say(room_id, "good-bye")
    await alice.do("POST", "/account/deactivate", {"auth": password(), "erase": True})
    await carol.join(room_id)

    async def read(reader: Person) -> list[Any]:
        chunk = (await reader.messages(room_id, limit=50))["chunk"]
        told = await reader.do("GET", "/sync", timeout=0)
        timeline = told["rooms"]["join"][room_id]["timeline"]["events"]
        events = (*chunk[::-1], *timeline, await reader.event(room_id, said))
        return [one["content"].get("body") for one in events if one["type"] == "m.room.message"]

    assert await read(bob) == ["hello", "good-bye", "hello", "good-bye", "hello"]
    assert await read(carol) == [None, "good-bye", None, "good-bye", None]


async def test_ending_an_account_needs_its_token(client: AsyncClient) -> None:
    assert outcome(await client.post(f"{V3}/account/deactivate", json={})) == (401, "M_MISSING_TOKEN")


async def test_changing_the_password_ends_other_devices_unless_asked_not_to(
    client: AsyncClient, register: Register
) -> None:
    phone = await register("alice")

    async def laptop(value: str) -> dict[str, Any]:
        body = {"type": "m.login.password", "user": "alice", "password": value}
        login: dict[str, Any] = (await client.post(f"{V3}/login", json=body)).json()
        return login

    async def change(new: str, old: str, **more: Any) -> Any:
        body = {"new_password": new, "auth": password(old), **more}
        return await client.post(f"{V3}/account/password", json=body, headers=bearing(phone))

    async def alive(login: dict[str, Any]) -> bool:
        return (await client.get(f"{V3}/account/whoami", headers=bearing(login))).status_code == 200

    first = await laptop("correct horse")
    assert outcome(await change("new", "wrong")) == (401, "M_FORBIDDEN")
    assert outcome(await change("", "correct horse")) == (400, "M_WEAK_PASSWORD")
    assert (await change("new", "correct horse")).json() == {}
    assert (await alive(phone), await alive(first)) == (True, False)
    second = await laptop("new")
    assert (await change("newer", "new", logout_devices=False)).json() == {}
    assert (await alive(phone), await alive(second)) == (True, True)
