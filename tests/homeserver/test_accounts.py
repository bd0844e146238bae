import asyncio
from typing import Any

import pytest
from argon2 import PasswordHasher
from httpx import AsyncClient, Response
from sqlalchemy import select

from identity_server.homeserver.accounts import store
from identity_server.homeserver.accounts.models import Account, InteractiveSession
from identity_server.homeserver.accounts.passwords import Passwords
from identity_server.runtime.clock import FakeClock
from identity_server.runtime.tokens import SystemEntropy
from identity_server.settings import HomeserverSettings
from tests.homeserver.conftest import Register, bearing

V3 = "/_matrix/client/v3"


def outcome(answer: Response) -> tuple[int, str | None]:
    return answer.status_code, answer.json().get("errcode")


async def log_in(client: AsyncClient, user: str = "alice", password: str = "correct horse", **more: Any) -> Response:
    identifier = {"type": "m.id.user", "user": user}
    body = {"type": "m.login.password", "identifier": identifier, "password": password, **more}
    return await client.post(f"{V3}/login", json=body)


async def who_am_i(client: AsyncClient, login: dict[str, Any]) -> Response:
    return await client.get(f"{V3}/account/whoami", headers=bearing(login))


# Registration


async def test_registering_takes_a_round_and_logs_in(client: AsyncClient, register: Register) -> None:
    login = await register("alice", device_id="PHONE")
    assert login["user_id"] == "@alice:hs.test"
    me = await who_am_i(client, login)
    assert me.json() == {"user_id": "@alice:hs.test", "device_id": "PHONE", "is_guest": False}


async def test_the_first_round_says_what_is_asked_for(client: AsyncClient) -> None:
    answer = await client.post(f"{V3}/register", json={"username": "alice", "password": "x"})
    body = answer.json()
    assert answer.status_code == 401
    assert body.pop("session")
    assert body == {"flows": [{"stages": ["m.login.dummy"]}, {"stages": ["m.login.email.identity"]}], "params": {}}


async def test_a_round_may_begin_with_the_dummy_stage(client: AsyncClient) -> None:
    body = {"username": "alice", "password": "x", "auth": {"type": "m.login.dummy"}}
    assert (await client.post(f"{V3}/register", json=body)).status_code == 200


async def test_a_session_serves_once_and_not_for_ever(client: AsyncClient, clock: FakeClock) -> None:
    first = (await client.post(f"{V3}/register", json={})).json()["session"]
    auth = {"type": "m.login.dummy", "session": first}
    assert (await client.post(f"{V3}/register", json={"password": "x", "auth": auth})).status_code == 200
    again = await client.post(f"{V3}/register", json={"auth": auth})
    assert outcome(again) == (401, "M_UNAUTHORIZED")

    auth["session"] = again.json()["session"]
    clock.advance(hours=2)
    late = await client.post(f"{V3}/register", json={"password": "x", "auth": auth})
    assert outcome(late) == (401, "M_UNAUTHORIZED")
    assert late.json()["session"] != auth["session"]


async def test_expired_sessions_are_purged(client: AsyncClient, clock: FakeClock, state: dict[str, Any]) -> None:
    await client.post(f"{V3}/register", json={})
    clock.advance(hours=2)
    kept = (await client.post(f"{V3}/register", json={})).json()["session"]
    async with state["resources"].database.reading() as session:
        assert list(await session.scalars(select(InteractiveSession.session_id))) == [kept]


async def test_a_stage_that_is_not_offered_keeps_the_session_open(client: AsyncClient) -> None:
    session = (await client.post(f"{V3}/register", json={})).json()["session"]
    auth = {"type": "m.login.recaptcha", "session": session}
    wrong = await client.post(f"{V3}/register", json={"password": "x", "auth": auth})
    assert outcome(wrong) == (401, "M_UNRECOGNIZED")
    assert wrong.json()["session"] == session
    auth["type"] = "m.login.dummy"
    assert (await client.post(f"{V3}/register", json={"password": "x", "auth": auth})).status_code == 200


async def test_without_a_username_one_is_drawn(client: AsyncClient) -> None:
    body = {"password": "x", "auth": {"type": "m.login.dummy"}}
    first = (await client.post(f"{V3}/register", json=body)).json()
    second = (await client.post(f"{V3}/register", json=body)).json()
    assert first["user_id"] != second["user_id"]


async def test_inhibit_login_gives_no_token(register: Register, client: AsyncClient) -> None:
    assert await register("alice", inhibit_login=True) == {"user_id": "@alice:hs.test", "home_server": "hs.test"}
    assert (await log_in(client)).status_code == 200


async def test_a_username_is_taken_in_whatever_case(client: AsyncClient, register: Register) -> None:
    await register("alice")
    for answer in (
        await client.post(f"{V3}/register", json={"username": "Alice", "password": "x"}),
        await client.get(f"{V3}/register/available", params={"username": "ALICE"}),
    ):
        assert outcome(answer) == (400, "M_USER_IN_USE")


async def test_of_two_who_want_a_name_at_once_one_gets_it(client: AsyncClient) -> None:
    body = {"username": "alice", "password": "x", "auth": {"type": "m.login.dummy"}}
    answers = await asyncio.gather(*(client.post(f"{V3}/register", json=body) for _ in range(4)))
    assert sorted(map(outcome, answers)) == [(200, None), *[(400, "M_USER_IN_USE")] * 3]


async def test_a_username_outside_the_grammar_is_refused(client: AsyncClient) -> None:
    for username in ("", "al ice", "_alice", "älice", "alice:hs.test", "@alice", "a\0b", "a" * 248):
        answer = await client.post(f"{V3}/register", json={"username": username, "password": "x"})
        assert outcome(answer) == (400, "M_INVALID_USERNAME"), username
        answer = await client.get(f"{V3}/register/available", params={"username": username})
        assert outcome(answer) == (400, "M_INVALID_USERNAME"), username


async def test_a_free_username_is_available(client: AsyncClient) -> None:
    answer = await client.get(f"{V3}/register/available", params={"username": "a.b_c=d-e/f+1"})
    assert (answer.status_code, answer.json()) == (200, {"available": True})
    assert outcome(await client.get(f"{V3}/register/available")) == (400, "M_MISSING_PARAM")


async def test_registering_needs_a_password(client: AsyncClient) -> None:
    auth = {"type": "m.login.dummy"}
    assert outcome(await client.post(f"{V3}/register", json={"auth": auth})) == (400, "M_MISSING_PARAM")
    answer = await client.post(f"{V3}/register", json={"auth": auth, "password": ""})
    assert outcome(answer) == (400, "M_WEAK_PASSWORD")


async def test_guests_are_not_admitted(client: AsyncClient) -> None:
    assert outcome(await client.post(f"{V3}/register?kind=guest", json={})) == (403, "M_FORBIDDEN")
    assert outcome(await client.post(f"{V3}/register?kind=bot", json={})) == (400, "M_INVALID_PARAM")


class TestWithoutRegistration:
    @pytest.fixture
    def homeserver(self) -> HomeserverSettings:
        return HomeserverSettings(name="hs.test")

    async def test_nobody_may_register(self, client: AsyncClient) -> None:
        answer = await client.post(f"{V3}/register", json={"username": "alice", "password": "x"})
        assert outcome(answer) == (403, "M_FORBIDDEN")


# Login


async def test_login_offers_passwords(client: AsyncClient) -> None:
    assert (await client.get(f"{V3}/login")).json() == {
        "flows": [{"type": "m.login.password"}, {"type": "m.login.token", "get_login_token": True}]
    }


async def test_one_logs_in_by_localpart_or_user_id(client: AsyncClient, register: Register) -> None:
    await register("alice")
    for user in ("alice", "@alice:hs.test", "Alice"):
        login = (await log_in(client, user)).json()
        assert login["user_id"] == "@alice:hs.test"
        assert (await who_am_i(client, login)).json()["device_id"] == login["device_id"]


async def test_the_deprecated_user_key_still_logs_in(client: AsyncClient, register: Register) -> None:
    await register("alice")
    body = {"type": "m.login.password", "user": "alice", "password": "correct horse"}
    assert (await client.post("/_matrix/client/r0/login", json=body)).status_code == 200


async def test_wrong_passwords_and_unknown_users_look_alike(client: AsyncClient, register: Register) -> None:
    await register("alice")
    refusal = {"errcode": "M_FORBIDDEN", "error": "Invalid username or password"}
    for user in ("alice", "bob", "@alice:elsewhere.test", "a\tb", ""):
        answer = await log_in(client, user, "wrong")
        assert (answer.status_code, answer.json()) == (403, refusal), user


async def test_a_login_that_makes_no_sense_is_refused(client: AsyncClient) -> None:
    by_email = {"type": "m.id.thirdparty", "medium": "email", "address": "a@example.org"}
    senseless: list[tuple[dict[str, Any], tuple[int, str]]] = [
        ({"type": "m.login.token", "token": "x"}, (403, "M_FORBIDDEN")),
        ({}, (400, "M_MISSING_PARAM")),
        ({"type": "m.login.password", "password": "x"}, (400, "M_MISSING_PARAM")),
        ({"type": "m.login.password", "user": "alice"}, (400, "M_MISSING_PARAM")),
        ({"type": "m.login.password", "user": "a\0", "password": "x"}, (400, "M_INVALID_PARAM")),
        ({"type": "m.login.password", "user": 3, "password": "x"}, (400, "M_INVALID_PARAM")),
        ({"type": "m.login.password", "user": "alice", "password": "x" * 513}, (400, "M_INVALID_PARAM")),
        ({"type": "m.login.password", "identifier": by_email, "password": "x"}, (403, "M_FORBIDDEN")),
        ({"type": "m.login.password", "identifier": {"type": "m.id.x"}, "password": "x"}, (400, "M_UNKNOWN")),
    ]
    for body, expected in senseless:
        assert outcome(await client.post(f"{V3}/login", json=body)) == expected, body


async def test_logging_in_again_on_a_device_revokes_its_older_token(client: AsyncClient, register: Register) -> None:
    first = await register("alice", device_id="PHONE")
    second = (await log_in(client, device_id="PHONE")).json()
    other = (await log_in(client)).json()
    assert outcome(await who_am_i(client, first)) == (401, "M_UNKNOWN_TOKEN")
    assert (await who_am_i(client, second)).status_code == 200
    assert other["device_id"] != "PHONE"


async def test_two_logins_at_once_on_one_device_leave_one_token(client: AsyncClient, register: Register) -> None:
    await register("alice")
    answers = await asyncio.gather(*(log_in(client, device_id="PHONE") for _ in range(4)))
    alive = [(await who_am_i(client, answer.json())).status_code for answer in answers]
    assert sorted(alive) == [200, 401, 401, 401]


async def test_somebody_who_guesses_is_slowed_down(client: AsyncClient, register: Register) -> None:
    await register("alice")
    answers = [await log_in(client, password=f"guess {attempt}") for attempt in range(21)]
    assert [answer.status_code for answer in answers] == [403] * 20 + [429]
    assert answers[-1].json()["retry_after_ms"] > 0
    assert int(answers[-1].headers["Retry-After"]) > 0


async def test_who_knows_the_password_may_log_in_often(client: AsyncClient, register: Register) -> None:
    await register("alice")
    answers = [await log_in(client, device_id="PHONE") for _ in range(25)]
    assert {answer.status_code for answer in answers} == {200}


async def test_a_password_is_the_same_however_its_letters_are_composed(client: AsyncClient, register: Register) -> None:
    await register("alice", password="caf\u00e9")
    assert (await log_in(client, password="cafe\u0301")).status_code == 200


async def test_a_hash_with_old_parameters_is_renewed_at_login(
    client: AsyncClient, register: Register, state: dict[str, Any]
) -> None:
    await register("alice")
    database = state["resources"].database
    old = PasswordHasher(time_cost=2, memory_cost=64, parallelism=1).hash("correct horse")
    async with database.transaction() as session:
        await store.set_password_hash(session, "@alice:hs.test", old)
    assert (await log_in(client)).status_code == 200
    async with database.reading() as session:
        assert "t=1" in (await store.password_hash(session, "@alice:hs.test") or "")
    assert (await log_in(client)).status_code == 200


async def test_neither_passwords_nor_tokens_are_stored(
    client: AsyncClient, register: Register, state: dict[str, Any]
) -> None:
    login = await register("alice")
    async with state["resources"].database.reading() as session:
        account = (await session.scalars(select(Account))).one()
        tokens = (await session.connection()).exec_driver_sql
        stored = repr(account) + repr((await tokens("SELECT * FROM access_tokens")).all())
    assert "correct horse" not in stored
    assert login["access_token"] not in stored


async def test_hashing_does_not_hold_up_the_loop() -> None:
    passwords = Passwords(SystemEntropy())
    try:
        hashing = asyncio.create_task(passwords.hash("correct horse"))
        ticks = 0
        while not hashing.done():
            await asyncio.sleep(0.001)
            ticks += 1
        assert ticks > 5
        assert await passwords.matches("correct horse", await hashing)
        assert not await passwords.matches("correct horse", None)
        assert not await passwords.matches("correct horse", "no hash at all")
    finally:
        passwords.close()


# Logout


async def test_logging_out_ends_one_device(client: AsyncClient, register: Register) -> None:
    phone = await register("alice")
    laptop = (await log_in(client)).json()
    assert (await client.post(f"{V3}/logout", headers=bearing(phone))).json() == {}
    assert outcome(await who_am_i(client, phone)) == (401, "M_UNKNOWN_TOKEN")
    assert (await who_am_i(client, laptop)).status_code == 200


async def test_logging_out_everywhere_ends_all_of_ones_own(client: AsyncClient, register: Register) -> None:
    phone, bob = await register("alice"), await register("bob")
    laptop = (await log_in(client)).json()
    assert (await client.post(f"{V3}/logout/all", headers=bearing(laptop))).json() == {}
    assert outcome(await who_am_i(client, phone)) == (401, "M_UNKNOWN_TOKEN")
    assert (await who_am_i(client, bob)).status_code == 200


async def test_a_token_is_needed_and_must_be_live(client: AsyncClient, register: Register) -> None:
    assert outcome(await client.get(f"{V3}/account/whoami")) == (401, "M_MISSING_TOKEN")
    answer = await client.get(f"{V3}/account/whoami", headers={"Authorization": "Bearer nonsense"})
    assert answer.json() == {
        "errcode": "M_UNKNOWN_TOKEN",
        "error": "Unrecognised access token",
        "soft_logout": False,
    }
    login = await register("alice")
    by_query = await client.get(f"{V3}/account/whoami", params={"access_token": login["access_token"]})
    assert by_query.status_code == 200


async def test_a_registration_goes_on_by_its_session_and_ends_twice_alike(client: AsyncClient) -> None:
    wish = {"username": "alice", "password": "bücher", "device_id": "PHONE", "initial_device_display_name": "Phone"}
    session = (await client.post(f"{V3}/register", json=wish)).json()["session"]
    auth = {"auth": {"type": "m.login.dummy", "session": session}}
    made = (await client.post(f"{V3}/register", json=auth)).json()
    assert (made["user_id"], made["device_id"]) == ("@alice:hs.test", "PHONE")
    again = await client.post(f"{V3}/register", json=wish | auth)
    assert (again.json()["user_id"], again.json()["device_id"]) == ("@alice:hs.test", "PHONE")
    assert outcome(await who_am_i(client, again.json())) == (200, None)
    assert (await client.post(f"{V3}/register", json=auth)).status_code == 401
    assert outcome(await client.post(f"{V3}/register", json=wish | auth | {"password": "x"})) == (403, "M_FORBIDDEN")
    silent = {"username": "bob", "password": "x", "inhibit_login": 1}
    session = (await client.post(f"{V3}/register", json=silent)).json()["session"]
    answer = await client.post(f"{V3}/register", json={"auth": {"type": "m.login.dummy", "session": session}})
    assert answer.json() == {"user_id": "@bob:hs.test", "home_server": "hs.test"}


async def test_one_device_lets_another_in(client: AsyncClient, register: Register, clock: FakeClock) -> None:
    alice = await register("alice")
    get_token = "/_matrix/client/v1/login/get_token"

    async def new_token() -> str:
        session = (await client.post(get_token, headers=bearing(alice))).json()["session"]
        auth = {"type": "m.login.password", "session": session, "user": "alice", "password": "correct horse"}
        answer = await client.post(get_token, json={"auth": auth}, headers=bearing(alice))
        assert answer.json()["expires_in_ms"] == 120_000
        token: str = answer.json()["login_token"]
        return token

    async def enter(token: str | None) -> Response:
        return await client.post(f"{V3}/login", json={"type": "m.login.token", "token": token, "device_id": "TABLET"})

    token = await new_token()
    tablet = await enter(token)
    assert (tablet.json()["user_id"], tablet.json()["device_id"]) == ("@alice:hs.test", "TABLET")
    assert outcome(await who_am_i(client, tablet.json())) == (200, None)
    assert outcome(await enter(token)) == (403, "M_FORBIDDEN")
    assert outcome(await enter(None)) == (400, "M_MISSING_PARAM")
    token = await new_token()
    clock.advance(seconds=120)
    assert outcome(await enter(token)) == (403, "M_FORBIDDEN")
    token = await new_token()
    auth = {"type": "m.login.password", "user": "alice", "password": "correct horse"}
    changed = {"new_password": "other horse", "auth": auth}
    assert (await client.post(f"{V3}/account/password", json=changed, headers=bearing(alice))).status_code == 200
    assert outcome(await enter(token)) == (403, "M_FORBIDDEN")
