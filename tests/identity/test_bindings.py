import asyncio
from typing import Any

import pytest

from identity_server.matrix.signing import VerifyKey, verify_json
from tests.world import IdentityServer

V2 = "/_matrix/identity/v2"
ALICE = "@alice:hs.test"
THREEPID = {"medium": "email", "address": "alice@example.org"}


async def test_a_bound_address_is_signed_for_and_found_by_others(server: IdentityServer) -> None:
    headers = await server.account(ALICE)
    session = await server.proven(headers)
    answer = await server.client.post(f"{V2}/3pid/bind", json={**session, "mxid": ALICE}, headers=headers)
    signed = answer.json()
    assert {key: signed[key] for key in ("medium", "address", "mxid")} == {**THREEPID, "mxid": ALICE}
    assert signed["ts"] == signed["not_before"] == server.clock.now_ms()
    assert signed["not_after"] > signed["ts"] + 99 * 365 * 86_400_000
    key = (await server.client.get(f"{V2}/pubkey/ed25519:0")).json()["public_key"]
    verify_json(signed, "is.test", VerifyKey.from_base64("ed25519:0", key))
    others = await server.account("@bob:hs.test")
    assert await server.found(others, "alice@example.org", "bob@example.org") == {"alice@example.org": ALICE}


async def test_binding_needs_a_session_that_has_proven_something(server: IdentityServer) -> None:
    headers = await server.account(ALICE)
    answer = await server.client.post(
        f"{V2}/validate/email/requestToken",
        json={"email": "alice@example.org", "client_secret": "s", "send_attempt": 1},
        headers=headers,
    )
    claim = {"sid": answer.json()["sid"], "client_secret": "s", "mxid": ALICE}
    answer = await server.client.post(f"{V2}/3pid/bind", json=claim, headers=headers)
    assert (answer.status_code, answer.json()["errcode"]) == (400, "M_SESSION_NOT_VALIDATED")
    answer = await server.client.post(f"{V2}/3pid/bind", json={**claim, "sid": "unknown"}, headers=headers)
    assert (answer.status_code, answer.json()["errcode"]) == (404, "M_NO_VALID_SESSION")
    server.clock.advance(hours=25)
    answer = await server.client.post(f"{V2}/3pid/bind", json=claim, headers=headers)
    assert (answer.status_code, answer.json()["errcode"]) == (400, "M_SESSION_EXPIRED")


async def test_nobody_binds_an_address_to_somebody_else(server: IdentityServer) -> None:
    headers = await server.account(ALICE)
    session = await server.proven(headers)
    answer = await server.client.post(f"{V2}/3pid/bind", json={**session, "mxid": "@bob:hs.test"}, headers=headers)
    assert (answer.status_code, answer.json()["errcode"]) == (403, "M_UNAUTHORIZED")
    assert await server.found(headers, "alice@example.org") == {}


async def test_the_newest_binding_wins(server: IdentityServer) -> None:
    headers = await server.bound(ALICE)
    await server.bound("@bob:hs.test", client_secret="other")  # in the same millisecond, even
    assert await server.found(headers, "alice@example.org") == {"alice@example.org": "@bob:hs.test"}


async def test_bindings_of_one_moment_come_to_what_they_would_one_after_the_other(server: IdentityServer) -> None:
    alice, bob = await server.account(ALICE), await server.account("@bob:hs.test")
    claims = [
        *[(alice, ALICE, await server.proven(alice, f"a{number}@example.org")) for number in range(9)],
        (alice, ALICE, await server.proven(alice, "Strauß@example.org")),
        (bob, "@bob:hs.test", await server.proven(bob, "strauss@example.org", client_secret="other")),
        (alice, ALICE, {"sid": "unknown", "client_secret": "s"}),
    ]
    answers = await asyncio.gather(
        *(
            server.client.post(f"{V2}/3pid/bind", json={**session, "mxid": user_id}, headers=headers)
            for headers, user_id, session in claims
        )
    )
    assert [answer.status_code for answer in answers] == [*[200] * 11, 404]
    last = max((answer.json() for answer in answers[9:11]), key=lambda signed: signed["ts"])["mxid"]
    found = await server.found(alice, *(f"a{number}@example.org" for number in range(9)))
    assert found == {f"a{number}@example.org": ALICE for number in range(9)}
    assert (await server.found(alice, "strauss@example.org")).popitem()[1] == last
    # The spelling is findable while it is the one that was bound.
    assert ("strauß@example.org" in await server.found(alice, "strauß@example.org")) == (last == ALICE)


async def test_after_unbinding_nothing_of_the_address_is_found(server: IdentityServer) -> None:
    headers = await server.bound(ALICE, "Strauß@example.org")
    assert len(await server.found(headers, "strauss@example.org", "strauß@example.org")) == 2
    body = {"mxid": ALICE, "threepid": {"medium": "email", "address": "Strauß@Example.org"}}
    answer = await server.client.post(f"{V2}/3pid/unbind", json=body, headers=headers)
    assert (answer.status_code, answer.json()) == (200, {})
    assert await server.found(headers, "strauss@example.org", "strauß@example.org") == {}
    statements = await server.database.fast.value("SELECT count(*) FROM association_log")
    hashes = await server.database.fast.value("SELECT count(*) FROM lookup_0")
    assert (statements, hashes) == (2, 0)
    # Twice is as good as once.
    assert (await server.client.post(f"{V2}/3pid/unbind", json=body, headers=headers)).status_code == 200
    assert await server.database.fast.value("SELECT count(*) FROM association_log") == 2


async def test_an_address_may_be_bound_again_after_it_was_unbound(server: IdentityServer) -> None:
    headers = await server.bound(ALICE)
    await server.client.post(f"{V2}/3pid/unbind", json={"mxid": ALICE, "threepid": THREEPID}, headers=headers)
    await server.bound(ALICE, client_secret="again")
    assert await server.found(headers, "alice@example.org") == {"alice@example.org": ALICE}


async def test_whoever_proves_the_address_may_unbind_it(server: IdentityServer) -> None:
    headers = await server.bound(ALICE)
    session = {"sid": "", "client_secret": "secret"}
    answer = await server.client.post(
        f"{V2}/validate/email/requestToken",
        json={"email": "alice@example.org", "client_secret": "secret", "send_attempt": 1},
        headers=headers,
    )
    session["sid"] = answer.json()["sid"]
    body: dict[str, Any] = {**session, "mxid": ALICE, "threepid": {"medium": "email", "address": "other@example.org"}}
    answer = await server.client.post(f"{V2}/3pid/unbind", json=body)
    assert (answer.status_code, answer.json()["errcode"]) == (403, "M_FORBIDDEN")
    answer = await server.client.post(f"{V2}/3pid/unbind", json={**body, "threepid": THREEPID, "sid": "x"})
    assert (answer.status_code, answer.json()["errcode"]) == (404, "M_NO_VALID_SESSION")
    answer = await server.client.post(f"{V2}/3pid/unbind", json={**body, "threepid": THREEPID})
    assert answer.status_code == 200
    assert await server.found(headers, "alice@example.org") == {}


async def test_others_may_not_unbind(server: IdentityServer) -> None:
    headers = await server.bound(ALICE)
    body = {"mxid": ALICE, "threepid": THREEPID}
    bob = await server.account("@bob:hs.test")
    answer = await server.client.post(f"{V2}/3pid/unbind", json=body, headers=bob)
    assert (answer.status_code, answer.json()["errcode"]) == (403, "M_FORBIDDEN")
    answer = await server.client.post(f"{V2}/3pid/unbind", json=body)
    assert (answer.status_code, answer.json()["errcode"]) == (401, "M_UNAUTHORIZED")
    answer = await server.client.post(f"{V2}/3pid/unbind", json={**body, "mxid": "@bob:hs.test"}, headers=bob)
    assert answer.status_code == 200  # he has nothing of it to lose
    assert await server.found(headers, "alice@example.org") == {"alice@example.org": ALICE}


@pytest.mark.parametrize(
    "mxid", ["", "alice", "@alice", "@:hs.test", "@alice:", "@a\0b:hs.test", "@" + "a" * 255 + ":b"]
)
async def test_what_is_no_user_id_is_refused(server: IdentityServer, mxid: str) -> None:
    headers = await server.account(ALICE)
    claim = {"sid": "a", "client_secret": "b", "mxid": mxid}
    answer = await server.client.post(f"{V2}/3pid/bind", json=claim, headers=headers)
    assert (answer.status_code, answer.json()["errcode"]) == (400, "M_INVALID_PARAM")


async def test_the_homeserver_is_told_of_a_binding(server: IdentityServer) -> None:
    await server.bound(ALICE)
    [(homeserver, notice)] = await server.told()
    assert homeserver == "hs.test"
    assert {key: notice[key] for key in ("medium", "address", "mxid", "invites")} == {
        **THREEPID,
        "mxid": ALICE,
        "invites": [],
    }
    key = (await server.client.get(f"{V2}/pubkey/ed25519:0")).json()["public_key"]
    verify_json(notice, "is.test", VerifyKey.from_base64("ed25519:0", key))
