"""Stories of addresses, played by both servers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from httpx import Response

from identity_server.identity.application import identity_application
from identity_server.runtime.clock import FakeClock
from identity_server.settings import Settings
from tests.homeserver.both import Both, open_both
from tests.homeserver.conftest import bearing
from tests.homeserver.test_accounts import V3, log_in, outcome, who_am_i

ALICE = "alice@example.org"


@pytest.fixture
def engine() -> str:
    """Each story opens two servers: on PostgreSQL only those at the end, which write whatever is to be written."""
    return "sqlite"


@pytest.fixture
def homeserver() -> dict[str, Any]:
    """Settings of the homeserver, which tests override."""
    return {}


@pytest.fixture
def policies() -> dict[str, Any]:
    """The identity server's."""
    return {}


@pytest.fixture
async def both(
    new_database_url: Callable[..., Awaitable[str]],
    tmp_path: Path,
    clock: FakeClock,
    homeserver: dict[str, Any],
    policies: dict[str, Any],
) -> AsyncIterator[Both]:
    ours = {
        "name": "hs.test",
        "registration": True,
        "identity_servers": ("https://is.test/",),
        "database_url": await new_database_url(),
        **homeserver,
    }
    homeserver_settings = Settings(server={"data_dir": tmp_path}, homeserver=ours, rate_limits={"enabled": False})
    identity_settings = Settings(
        server={"name": "is.test", "public_base_url": "https://is.test", "data_dir": tmp_path},
        database={"url": await new_database_url("identity")},
        rate_limits={"enabled": False},
        terms={"policies": policies},
        sms={"routes": [{"url": "json://sms.test"}]},
    )
    async with open_both(homeserver_settings, identity_settings, identity_application, clock) as both:
        yield both


async def register(both: Both, username: str, **more: Any) -> dict[str, Any]:
    wish = {"username": username, "password": "correct horse", "auth": {"type": "m.login.dummy"}, **more}
    answer = await both.client.post(f"{V3}/register", json=wish)
    assert answer.status_code == 200, answer.text
    login: dict[str, Any] = answer.json()
    return login


async def request_token(both: Both, path: str, login: dict[str, Any] | None = None, **more: Any) -> Response:
    wish = {"email": "Alice@Example.org", "client_secret": "secret", "send_attempt": 1, **more}
    return await both.client.post(f"{V3}{path}/email/requestToken", json=wish, headers=bearing(login) if login else {})


async def prove(both: Both, path: str, login: dict[str, Any] | None = None, **more: Any) -> dict[str, str]:
    """The credentials of a session in which the address has been proven."""
    answer = await request_token(both, path, login, **more)
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"sid"}
    await both.prove_email(answer.json()["sid"], "secret")
    return {"sid": answer.json()["sid"], "client_secret": "secret"}


async def with_address(both: Both, username: str = "alice", email: str = ALICE) -> dict[str, Any]:
    """Somebody whose account has the address."""
    login = await register(both, username)
    proof = await prove(both, "/account/3pid", login, email=email)
    auth = {"type": "m.login.password", "password": "correct horse"}
    answer = await both.client.post(f"{V3}/account/3pid/add", json={**proof, "auth": auth}, headers=bearing(login))
    assert (answer.status_code, answer.json()) == (200, {})
    return login


async def threepids(both: Both, login: dict[str, Any]) -> list[dict[str, Any]]:
    answer = await both.client.get(f"{V3}/account/3pid", headers=bearing(login))
    found: list[dict[str, Any]] = answer.json()["threepids"]
    return found


async def test_who_registers_with_an_address_has_it_in_the_account_and_logs_in_by_it(both: Both) -> None:
    wish = {"username": "alice", "password": "correct horse"}
    first = await both.client.post(f"{V3}/register", json=wish)
    assert ["m.login.email.identity"] in [flow["stages"] for flow in first.json()["flows"]]
    sent = await request_token(both, "/register")
    proof = {"sid": sent.json()["sid"], "client_secret": "secret"}
    auth = {"type": "m.login.email.identity", "session": first.json()["session"], "threepid_creds": proof}
    early = await both.client.post(f"{V3}/register", json={**wish, "auth": auth})
    assert outcome(early) == (401, "M_UNAUTHORIZED")
    assert early.json()["session"] == auth["session"]
    await both.prove_email(**proof)
    login = (await both.client.post(f"{V3}/register", json={**wish, "auth": auth})).json()
    assert login["user_id"] == "@alice:hs.test"
    [threepid] = await threepids(both, login)
    assert (threepid["medium"], threepid["address"]) == ("email", ALICE)
    assert threepid["validated_at"] <= threepid["added_at"]

    for identifier in (
        {"type": "m.id.thirdparty", "medium": "email", "address": "ALICE@example.ORG"},
        {"medium": "email", "address": ALICE},  # as the specification's own example has it
    ):
        body = {"type": "m.login.password", "identifier": identifier, "password": "correct horse"}
        assert (await both.client.post(f"{V3}/login", json=body)).json()["user_id"] == "@alice:hs.test"
    again = await request_token(both, "/register")
    assert outcome(again) == (400, "M_THREEPID_IN_USE")


class TestWhereAnAddressIsRequired:
    @pytest.fixture
    def homeserver(self) -> dict[str, Any]:
        return {
            "registration_requires": ("email",),
            "registration_tokens": ("let-me-in",),
            "registration_policies": {
                "privacy": {"version": "1", "languages": {"en": {"name": "Privacy", "url": "https://hs.test/p"}}}
            },
        }

    async def test_one_passes_every_stage_in_its_order(self, both: Both) -> None:
        wish = {"username": "alice", "password": "correct horse"}
        asked = (await both.client.post(f"{V3}/register", json=wish)).json()
        stages = ["m.login.registration_token", "m.login.terms", "m.login.email.identity"]
        assert asked["flows"] == [{"stages": stages}]
        assert asked["params"]["m.login.terms"]["policies"]["privacy"] == {
            "version": "1",
            "en": {"name": "Privacy", "url": "https://hs.test/p"},
        }

        async def attempt(**auth: Any) -> Response:
            body = {**wish, "auth": {"session": asked["session"], **auth}}
            return await both.client.post(f"{V3}/register", json=body)

        assert outcome(await attempt(type="m.login.terms")) == (401, "M_UNAUTHORIZED")
        assert outcome(await attempt(type="m.login.registration_token", token="x")) == (401, "M_UNAUTHORIZED")
        passed = await attempt(type="m.login.registration_token", token="let-me-in")
        assert passed.json()["completed"] == stages[:1]
        assert "errcode" not in passed.json()
        assert (await attempt(type="m.login.terms")).json()["completed"] == stages[:2]
        proof = await prove(both, "/register")
        done = await attempt(type="m.login.email.identity", threepidCreds=proof)
        assert done.status_code == 200, done.text
        assert (await threepids(both, done.json()))[0]["address"] == ALICE

    async def test_clients_that_do_not_know_a_stage_show_a_page(self, both: Both) -> None:
        wish = {"username": "alice", "password": "correct horse"}
        session = (await both.client.post(f"{V3}/register", json=wish)).json()["session"]

        def page(stage: str) -> str:
            return f"{V3}/auth/{stage}/fallback/web?session={session}"

        url = page("m.login.registration_token")
        assert "Registration token" in (await both.client.get(url)).text
        assert (await both.client.post(url, content="token=guess")).status_code == 403
        done = await both.client.post(url, content="token=let-me-in")
        assert (done.status_code, "onAuthDone" in done.text) == (200, True)
        terms = page("m.login.terms")
        assert "https://hs.test/p" in (await both.client.get(terms)).text
        assert "onAuthDone" in (await both.client.post(terms)).text
        state = await both.client.post(f"{V3}/register", json={**wish, "auth": {"session": session}})
        assert state.json()["completed"] == ["m.login.registration_token", "m.login.terms"]
        assert outcome(await both.client.get(page("m.login.sso"))) == (404, "M_UNRECOGNIZED")

    async def test_a_token_can_be_tried_before(self, both: Both) -> None:
        url = "/_matrix/client/v1/register/m.login.registration_token/validity"
        for token, valid in (("let-me-in", True), ("guess", False), ("é", False)):
            assert (await both.client.get(url, params={"token": token})).json() == {"valid": valid}


class TestWithTerms:
    @pytest.fixture
    def policies(self) -> dict[str, Any]:
        return {"terms": {"version": "1", "languages": {"en": {"name": "Terms", "url": "https://is.test/t"}}}}

    async def test_the_homeservers_own_account_accepts_them(self, both: Both) -> None:
        assert (await request_token(both, "/register")).status_code == 200


async def test_the_homeservers_own_account_is_made_anew_when_it_is_lost(both: Both) -> None:
    assert (await request_token(both, "/register")).status_code == 200
    async with both.identity.database.transaction() as session:
        await (await session.connection()).exec_driver_sql("DELETE FROM access_tokens")
    assert (await request_token(both, "/register", send_attempt="2")).status_code == 200
    reserved = await both.client.get(f"{V3}/register/available", params={"username": "_identity"})
    assert outcome(reserved) == (400, "M_INVALID_USERNAME")


async def test_an_address_is_added_once_the_password_is_given(both: Both) -> None:
    login = await register(both, "alice")
    sent = await request_token(both, "/account/3pid", login)
    proof = {"sid": sent.json()["sid"], "client_secret": "secret"}
    auth = {"type": "m.login.password", "password": "correct horse"}

    async def add(**more: Any) -> Response:
        return await both.client.post(f"{V3}/account/3pid/add", json={**proof, **more}, headers=bearing(login))

    assert (await add()).json()["flows"] == [{"stages": ["m.login.password"]}]
    assert outcome(await add(auth=auth)) == (400, "M_THREEPID_AUTH_FAILED")
    assert outcome(await add(auth=auth, sid="other")) == (400, "M_THREEPID_AUTH_FAILED")
    await both.prove_email(**proof)
    assert (await add(auth=auth)).status_code == 200
    assert [threepid["address"] for threepid in await threepids(both, login)] == [ALICE]
    # Somebody else's now.
    bob = await register(both, "bob")
    assert outcome(await request_token(both, "/account/3pid", bob)) == (400, "M_THREEPID_IN_USE")
    answer = await both.client.post(f"{V3}/account/3pid/add", json={**proof, "auth": auth}, headers=bearing(bob))
    assert outcome(answer) == (400, "M_THREEPID_IN_USE")


async def test_the_deprecated_way_to_add_needs_no_password(both: Both) -> None:
    login = await register(both, "alice")
    sent = (await request_token(both, "/account/3pid", login)).json()
    credentials = {"sid": sent["sid"], "client_secret": "secret", "id_server": "is.test", "id_access_token": "x"}
    url, body = f"{V3}/account/3pid", {"three_pid_creds": credentials}
    assert outcome(await both.client.post(url, json=body, headers=bearing(login))) == (403, "M_THREEPID_AUTH_FAILED")
    await both.prove_email(sent["sid"], "secret")
    assert (await both.client.post(url, json=body, headers=bearing(login))).json() == {}
    assert len(await threepids(both, login)) == 1


async def test_a_phone_number_is_proven_through_the_homeserver(both: Both) -> None:
    login = await register(both, "alice")
    wish = {"country": "gb", "phone_number": "07700 900001", "client_secret": "secret", "send_attempt": 1}
    url = f"{V3}/account/3pid/msisdn/requestToken"
    sent = (await both.client.post(url, json=wish, headers=bearing(login))).json()
    submitted = {"sid": sent["sid"], "client_secret": "secret", "token": "000"}
    assert outcome(await both.client.post(sent["submit_url"], json=submitted)) == (400, "M_TOKEN_INCORRECT")
    submitted["token"] = both.newest_token
    assert (await both.client.post(sent["submit_url"], json=submitted)).json() == {"success": True}
    auth = {"type": "m.login.password", "password": "correct horse"}
    body = {"sid": sent["sid"], "client_secret": "secret", "auth": auth}
    assert (await both.client.post(f"{V3}/account/3pid/add", json=body, headers=bearing(login))).status_code == 200
    identifier = {"type": "m.id.phone", "country": "GB", "phone": "07700900001"}
    by_phone = {"type": "m.login.password", "identifier": identifier, "password": "correct horse"}
    assert (await both.client.post(f"{V3}/login", json=by_phone)).status_code == 200


async def test_a_forgotten_password_is_reset_by_the_address(both: Both) -> None:
    login = await with_address(both)
    proof = await prove(both, "/account/password", send_attempt="2")
    auth = {"type": "m.login.email.identity", "threepid_creds": proof}
    body = {"new_password": "new horse", "auth": auth}
    answer = await both.client.post(f"{V3}/account/password", json=body)
    assert (answer.status_code, answer.json()) == (200, {})
    assert outcome(await who_am_i(both.client, login)) == (401, "M_UNKNOWN_TOKEN")
    assert outcome(await log_in(both.client)) == (403, "M_FORBIDDEN")
    assert (await log_in(both.client, password="new horse")).status_code == 200
    unknown = await request_token(both, "/account/password", email="nobody@example.org")
    assert outcome(unknown) == (400, "M_THREEPID_NOT_FOUND")


class TestWhereAddressesAreHidden:
    @pytest.fixture
    def homeserver(self) -> dict[str, Any]:
        return {"hide_known_addresses": True}

    async def test_nobody_learns_who_has_an_account(self, both: Both) -> None:
        await with_address(both)
        sent = len(both.identity.outlet.sent)
        for answer in (
            await request_token(both, "/account/password", email="nobody@example.org"),
            await request_token(both, "/register"),
        ):
            assert (answer.status_code, list(answer.json())) == (200, ["sid"])
        assert len(both.identity.outlet.sent) == sent


async def test_an_untrusted_identity_server_proves_nothing(both: Both) -> None:
    login = await register(both, "alice")
    for path in ("/register", "/account/password", "/account/3pid"):
        answer = await request_token(both, path, login, id_server="evil.test", id_access_token="x")
        assert outcome(answer) == (400, "M_SERVER_NOT_TRUSTED"), path
    nonsense = await request_token(both, "/register", id_server="[")
    assert outcome(nonsense) == (400, "M_INVALID_PARAM")
    assert outcome(await request_token(both, "/register", email="nobody")) == (400, "M_INVALID_PARAM")
    proof = {"sid": "1", "client_secret": "secret", "id_server": "evil.test"}
    auth = {"type": "m.login.email.identity", "threepid_creds": proof}
    answer = await both.client.post(f"{V3}/register", json={"password": "x", "auth": auth})
    assert outcome(answer) == (401, "M_SERVER_NOT_TRUSTED")


async def bind(both: Both, login: dict[str, Any]) -> str:
    """The user's token at the identity server, once the address is bound through the homeserver."""
    proof = await prove(both, "/account/3pid", login, email="public@example.org")
    token = await both.identity_token(login)
    body = {**proof, "id_server": "is.test", "id_access_token": token}
    answer = await both.client.post(f"{V3}/account/3pid/bind", json=body, headers=bearing(login))
    assert (answer.status_code, answer.json()) == (200, {})
    return token


async def found(both: Both, token: str) -> dict[str, str]:
    return await both.identity.found({"Authorization": f"Bearer {token}"}, "public@example.org")


async def test_what_is_bound_through_us_is_found_until_it_is_unbound(both: Both) -> None:
    login = await register(both, "alice")
    token = await bind(both, login)
    assert await found(both, token) == {"public@example.org": "@alice:hs.test"}
    assert await threepids(both, login) == []  # bound, not added
    body = {"medium": "email", "address": "Public@example.org"}
    answer = await both.client.post(f"{V3}/account/3pid/unbind", json=body, headers=bearing(login))
    assert answer.json() == {"id_server_unbind_result": "success"}
    assert await found(both, token) == {}
    again = await both.client.post(f"{V3}/account/3pid/unbind", json=body, headers=bearing(login))
    assert again.json() == {"id_server_unbind_result": "no-support"}


async def test_what_the_identity_server_refuses_is_passed_on(both: Both) -> None:
    login = await register(both, "alice")
    body = {"sid": "1", "client_secret": "secret", "id_server": "is.test"}
    token = await both.identity_token(login)
    url = f"{V3}/account/3pid/bind"
    answer = await both.client.post(url, json={**body, "id_access_token": token}, headers=bearing(login))
    assert outcome(answer) == (404, "M_NO_VALID_SESSION")
    away = {**body, "id_server": "nowhere.test", "id_access_token": token}
    assert (await both.client.post(url, json=away, headers=bearing(login))).status_code == 502


async def test_deleting_takes_the_address_from_the_account_and_unbinds_it(both: Both) -> None:
    login = await with_address(both, email="public@example.org")
    body = {"medium": "email", "address": "public@example.org"}
    answer = await both.client.post(f"{V3}/account/3pid/delete", json=body, headers=bearing(login))
    assert answer.json() == {"id_server_unbind_result": "no-support"}  # it was not bound
    assert await threepids(both, login) == []
    token = await bind(both, login)
    elsewhere = {**body, "id_server": "nowhere.test"}
    answer = await both.client.post(f"{V3}/account/3pid/delete", json=elsewhere, headers=bearing(login))
    assert answer.json() == {"id_server_unbind_result": "no-support"}
    assert await found(both, token) != {}
    answer = await both.client.post(f"{V3}/account/3pid/delete", json=body, headers=bearing(login))
    assert answer.json() == {"id_server_unbind_result": "success"}
    assert await found(both, token) == {}


async def deactivate(both: Both, login: dict[str, Any], **more: Any) -> Response:
    auth = {"type": "m.login.password", "password": "correct horse"}
    body = {"auth": auth, **more}
    return await both.client.post(f"{V3}/account/deactivate", json=body, headers=bearing(login))


async def test_deactivating_unbinds_and_frees_the_address(both: Both) -> None:
    alice, bob = await with_address(both), await register(both, "bob")
    await bind(both, alice)
    token = await both.identity_token(bob)
    assert await found(both, token) != {}
    answer = await deactivate(both, alice)
    assert (answer.status_code, answer.json()) == (200, {"id_server_unbind_result": "success"})
    assert await found(both, token) == {}
    assert (await request_token(both, "/account/3pid", bob, send_attempt=9)).status_code == 200
    gone = {"type": "m.id.thirdparty", "medium": "email", "address": ALICE}
    by_address = {"type": "m.login.password", "identifier": gone, "password": "correct horse"}
    assert outcome(await both.client.post(f"{V3}/login", json=by_address)) == (403, "M_FORBIDDEN")


async def test_an_identity_server_that_is_away_is_told_when_it_is_back(both: Both, clock: FakeClock) -> None:
    alice, bob = await register(both, "alice"), await register(both, "bob")
    await bind(both, alice)
    token = await both.identity_token(bob)
    away = both.http.clients.pop("is.test")
    answer = await deactivate(both, alice)
    assert answer.json() == {"id_server_unbind_result": "no-support"}
    await both.state["tasks"].run_due()
    both.http.clients["is.test"] = away
    assert await found(both, token) != {}
    clock.advance(seconds=10)
    await both.state["tasks"].run_due()
    async with asyncio.timeout(10):
        while await found(both, token):
            await asyncio.sleep(0.05)


async def invite(both: Both, login: dict[str, Any], room_id: str, address: str) -> Response:
    invitation = {
        "id_server": "is.test",
        "id_access_token": await both.identity_token(login),
        "medium": "email",
        "address": address,
    }
    return await both.client.post(f"{V3}/rooms/{room_id}/invite", json=invitation, headers=bearing(login))


async def member(both: Both, login: dict[str, Any], room_id: str, user_id: str) -> dict[str, Any] | None:
    url = f"{V3}/rooms/{room_id}/state/m.room.member/{user_id}"
    answer = await both.client.get(url, headers=bearing(login))
    content: dict[str, Any] | None = answer.json() if answer.status_code == 200 else None
    return content


async def test_who_is_invited_by_address_is_invited_once_it_is_theirs(both: Both) -> None:
    alice = await register(both, "alice")
    wish = {"name": "Tea party"}
    created = await both.client.post(f"{V3}/createRoom", json=wish, headers=bearing(alice))
    room_id = created.json()["room_id"]
    answer = await invite(both, alice, room_id, "Public@example.org")
    assert (answer.status_code, answer.json()) == (200, {})
    async with asyncio.timeout(20):
        while not both.identity.outlet.sent:
            await asyncio.sleep(0.05)
    mail = both.identity.outlet.sent[-1]
    assert mail.recipient == "public@example.org"
    assert "Tea party" in mail.text

    bob = await register(both, "bob")
    await bind(both, bob)
    async with asyncio.timeout(20):
        while (invited := await member(both, alice, room_id, "@bob:hs.test")) is None:
            await asyncio.sleep(0.05)
    assert invited["membership"] == "invite"
    assert invited["third_party_invite"]["signed"]["mxid"] == "@bob:hs.test"
    joined = await both.client.post(f"{V3}/rooms/{room_id}/join", json={}, headers=bearing(bob))
    assert joined.status_code == 200, joined.text

    # Now that it is known whose it is, an invitation goes to the user.
    other = await both.client.post(f"{V3}/createRoom", json={}, headers=bearing(alice))
    assert (await invite(both, alice, other.json()["room_id"], "public@example.org")).status_code == 200
    invited = await member(both, alice, other.json()["room_id"], "@bob:hs.test")
    assert invited is not None
    assert (invited["membership"], "third_party_invite" in invited) == ("invite", False)


async def test_an_invitation_holds_once_the_homeserver_was_told_though_the_inviter_has_left(both: Both) -> None:
    alice, bob, carol = await register(both, "alice"), await register(both, "bob"), await register(both, "carol")
    wish = {"invite": ["@carol:hs.test"]}
    room_id = (await both.client.post(f"{V3}/createRoom", json=wish, headers=bearing(alice))).json()["room_id"]
    assert (await invite(both, alice, room_id, "public@example.org")).status_code == 200
    for login, what in ((carol, "join"), (alice, "leave")):
        answer = await both.client.post(f"{V3}/rooms/{room_id}/{what}", json={}, headers=bearing(login))
        assert answer.status_code == 200, answer.text
    await bind(both, bob)
    async with asyncio.timeout(20):
        await both.homeserver.was_told.wait()
    joined = await both.client.post(f"{V3}/rooms/{room_id}/join", json={}, headers=bearing(bob))
    assert joined.status_code == 200, joined.text


async def test_nobody_is_mailed_for_whoever_may_not_invite(both: Both) -> None:
    alice, bob = await register(both, "alice"), await register(both, "bob")
    created = await both.client.post(f"{V3}/createRoom", json={}, headers=bearing(alice))
    answer = await invite(both, bob, created.json()["room_id"], "public@example.org")
    assert outcome(answer) == (403, "M_FORBIDDEN")
    assert both.identity.outlet.sent == []


class TestOnPostgreSQL:
    @pytest.fixture
    def engine(self) -> str:
        return "postgresql"

    test_registering = staticmethod(
        test_who_registers_with_an_address_has_it_in_the_account_and_logs_in_by_it,
    )
    test_adding = staticmethod(test_an_address_is_added_once_the_password_is_given)
    test_resetting = staticmethod(test_a_forgotten_password_is_reset_by_the_address)
    test_deactivating = staticmethod(test_deactivating_unbinds_and_frees_the_address)
    test_inviting = staticmethod(test_who_is_invited_by_address_is_invited_once_it_is_theirs)
    test_deleting = staticmethod(test_deleting_takes_the_address_from_the_account_and_unbinds_it)
