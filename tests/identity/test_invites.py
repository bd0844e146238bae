"""Invitations of addresses that nobody has bound yet (Identity Service API, "Invitation storage")."""

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from httpx import Response

from identity_server.identity.purge import purge
from identity_server.matrix.signing import InvalidSignature, SigningKey, VerifyKey, verify_json
from identity_server.runtime.key_files import generate_key
from identity_server.runtime.tokens import FakeEntropy
from tests.world import IdentityServer, MakeServer

V2 = "/_matrix/identity/v2"
OURS = "/_matrix/identity/io.identity_server"
ALICE, BOB, MALLORY = "@alice:hs.test", "@bob:hs.test", "@mallory:hs.test"
ADDRESS = "bob@example.org"
ROOM = "!room:hs.test"
PHONE: dict[str, Any] = {"medium": "msisdn", "address": "447700900001"}
DAY_HOURS = 24


async def until(fulfilled: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not fulfilled():
            await asyncio.sleep(0.01)


async def asked_to_store(server: IdentityServer, headers: dict[str, str], **changed: Any) -> Response:
    wish = {"medium": "email", "address": ADDRESS, "room_id": ROOM, "sender": ALICE, **changed}
    return await server.client.post(f"{V2}/store-invite", json=wish, headers=headers)


async def invited(server: IdentityServer, headers: dict[str, str] | None = None, **changed: Any) -> dict[str, Any]:
    """What the room is told of an invitation by Alice."""
    answer = await asked_to_store(server, headers or await server.account(ALICE), **changed)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def link_sent(server: IdentityServer, count: int = 1) -> str:
    """The link in the newest of ``count`` messages, once they have left."""
    await until(lambda: len(server.outlet.sent) >= count)
    assert server.outlet.sent[-1].template == "invitation"
    return str(server.outlet.sent[-1].context["link"])


def in_link(link: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(link).fragment.partition("?")[2]).items()}


async def valid(server: IdentityServer, invitation: dict[str, Any]) -> list[bool]:
    """What the URLs that stand in the room say of the keys that stand there: long-term, ephemeral."""
    answers = [
        await server.client.get(key["key_validity_url"], params={"public_key": key["public_key"]})
        for key in invitation["public_keys"]
    ]
    return [answer.json()["valid"] for answer in answers]


async def notices(server: IdentityServer, count: int) -> list[dict[str, Any]]:
    """The first ``count`` onbind notices."""
    await until(lambda: len(server.homeservers.told) >= count)
    return [body for _, body in server.homeservers.told]


def signers(signed: dict[str, Any], public_key: str) -> list[str]:
    """The key IDs under which ``public_key`` signed, as a homeserver tries them (rooms store no key IDs)."""
    found = []
    for key_id in signed["signatures"]["is.test"]:
        try:
            verify_json(signed, "is.test", VerifyKey.from_base64(key_id, public_key))
        except InvalidSignature:
            continue
        found.append(key_id)
    return found


def without_signatures(signed: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in signed.items() if name != "signatures"}


# Storing


async def test_the_room_is_told_what_it_needs_and_not_the_address(server: IdentityServer) -> None:
    invitation = await invited(server)
    assert set(invitation) == {"token", "public_keys", "display_name"}
    assert invitation["display_name"] == "b...@e..."
    assert 0 < len(invitation["token"]) <= 255
    assert set(invitation["token"]) <= set("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.=_-")
    long_term, ephemeral = invitation["public_keys"]
    assert long_term["public_key"] == (await server.client.get(f"{V2}/pubkey/ed25519:0")).json()["public_key"]
    assert long_term["key_validity_url"] == f"https://is.test{V2}/pubkey/isvalid"
    assert ephemeral["key_validity_url"] == f"https://is.test{V2}/pubkey/ephemeral/isvalid"
    assert await valid(server, invitation) == [True, True]


async def test_every_invitation_has_its_own_token_and_key(server: IdentityServer) -> None:
    headers = await server.account(ALICE)
    first, second = [await invited(server, headers) for _ in range(2)]
    assert first["token"] != second["token"]
    assert first["public_keys"][1]["public_key"] != second["public_keys"][1]["public_key"]


async def test_the_invitee_is_told_who_invites_where(server: IdentityServer) -> None:
    await invited(
        server, address="Bob@Example.ORG", room_name="Gärten & <Höfe>", sender_display_name="Alice", language="de"
    )
    await link_sent(server)
    (mail,) = server.outlet.sent
    assert (mail.recipient, mail.language) == (ADDRESS, "de")
    assert mail.subject is not None
    assert "Alice" in mail.subject
    assert "Gärten & <Höfe>" in mail.text
    assert mail.html is not None
    assert "<Höfe>" not in mail.html


async def test_the_invitees_language_is_guessed_from_the_inviters(server: IdentityServer) -> None:
    headers = {**await server.account(ALICE), "Accept-Language": "fr-CA,en;q=0.5"}
    await invited(server, headers)
    await link_sent(server)
    assert "invite" in server.outlet.sent[0].text
    assert server.outlet.sent[0].language == "fr-CA,en;q=0.5"


async def test_the_link_leads_into_the_web_client_with_all_that_it_needs(make_server: MakeServer) -> None:
    async with make_server(email={"web_client_url": "https://web.test/app/"}) as server:
        invitation = await invited(
            server,
            room_name="Tea & cake",
            room_avatar_url="mxc://hs.test/a",
            room_type="m.space",
            sender_display_name="Älice",
        )
        link = await link_sent(server)
    assert link.startswith("https://web.test/app/#/room/")
    assert unquote(urlsplit(link).fragment.partition("?")[0]) == f"/room/{ROOM}"
    given = in_link(link)
    signurl = urlsplit(given.pop("signurl"))
    assert given == {
        "email": ADDRESS,
        "room_name": "Tea & cake",
        "room_avatar_url": "mxc://hs.test/a",
        "room_type": "m.space",
        "inviter_name": "Älice",
    }
    assert (signurl.scheme, signurl.netloc) == ("https", "is.test")
    secret = parse_qs(signurl.query)
    assert secret["token"] == [invitation["token"]]
    assert invitation["public_keys"][1]["public_key"] not in secret["private_key"]


async def test_the_link_names_the_room_by_its_alias_if_it_has_one(server: IdentityServer) -> None:
    await invited(server, room_alias="#tea:hs.test")
    fragment = urlsplit(await link_sent(server)).fragment
    assert unquote(fragment.partition("?")[0]) == "/room/#tea:hs.test"


async def test_a_message_that_cannot_leave_now_leaves_later(server: IdentityServer) -> None:
    headers = await server.account(ALICE)
    server.outlet.failing = True
    await invited(server, headers)
    async with asyncio.timeout(10):
        while not await server.database.fast.value("SELECT count(*) FROM tasks WHERE last_error IS NOT NULL"):
            await asyncio.sleep(0.01)
    server.outlet.failing = False
    server.clock.advance(seconds=60)
    await link_sent(server)


async def test_what_is_only_shown_is_no_reason_to_refuse(server: IdentityServer) -> None:
    await invited(server, room_name="x" * 5000, sender_display_name=None, room_avatar_url=None, other={"a": 1})
    assert in_link(await link_sent(server))["room_name"] == "x" * 1000


async def test_a_bound_address_is_invited_by_its_user_id(server: IdentityServer) -> None:
    bob = await server.bound(BOB, ADDRESS)
    answer = await asked_to_store(server, await server.account(ALICE), address="BOB@example.org")
    assert answer.status_code == 400
    assert (answer.json()["errcode"], answer.json()["mxid"]) == ("M_THREEPID_IN_USE", BOB)
    body = {"mxid": BOB, "threepid": {"medium": "email", "address": ADDRESS}}
    assert (await server.client.post(f"{V2}/3pid/unbind", json=body, headers=bob)).status_code == 200
    await invited(server)


@pytest.mark.parametrize(
    ("changed", "status", "errcode"),
    [
        ({"sender": BOB}, 403, "M_UNAUTHORIZED"),
        ({"medium": "msisdn", "address": "447700900001"}, 400, "M_UNRECOGNIZED"),
        ({"medium": "pigeon"}, 400, "M_UNRECOGNIZED"),
        ({"address": "nobody"}, 400, "M_INVALID_EMAIL"),
        ({"room_id": ""}, 400, "M_INVALID_PARAM"),
        ({"sender": "alice"}, 400, "M_INVALID_PARAM"),
        ({"room_name": 5}, 400, "M_INVALID_PARAM"),
    ],
)
async def test_a_wrong_invitation_is_refused_and_sends_nothing(
    server: IdentityServer, changed: dict[str, Any], status: int, errcode: str
) -> None:
    answer = await asked_to_store(server, await server.account(ALICE), **changed)
    assert (answer.status_code, answer.json()["errcode"]) == (status, errcode)
    assert await server.database.fast.value("SELECT count(*) FROM invites") == 0
    assert await server.database.fast.value("SELECT count(*) FROM tasks") == 0


async def test_inviting_needs_a_token_and_each_of_the_four_fields(server: IdentityServer) -> None:
    answer = await asked_to_store(server, {})
    assert (answer.status_code, answer.json()["errcode"]) == (401, "M_UNAUTHORIZED")
    wish = {"medium": "email", "address": ADDRESS, "room_id": ROOM, "sender": ALICE}
    headers = await server.account(ALICE)
    for missing in wish:
        body = {name: value for name, value in wish.items() if name != missing}
        answer = await server.client.post(f"{V2}/store-invite", json=body, headers=headers)
        assert (answer.status_code, answer.json()["errcode"]) == (400, "M_MISSING_PARAMS")


async def test_phone_numbers_are_invited_by_sms_where_that_is_configured(make_server: MakeServer) -> None:
    async with make_server(invites={"msisdn": True}) as server:
        invitation = await invited(server, **PHONE, sender_display_name="Alice")
        assert invitation["display_name"] == "+44...01"
        link = await link_sent(server)
        (sms,) = server.outlet.sent
        assert (sms.recipient, sms.subject) == ("447700900001", None)
        assert "Alice" in sms.text
        assert link in sms.text
        assert in_link(link)["msisdn"] == "447700900001"


async def test_nobody_is_flooded_with_invitations(make_server: MakeServer) -> None:
    limits: dict[str, Any] = {"enabled": True, "store_invite_per_address": "2/hour"}
    async with make_server(rate_limits=limits) as server:
        headers = await server.account(ALICE)
        answers = [await asked_to_store(server, headers, address=a) for a in (ADDRESS, "BOB@example.org", ADDRESS)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert (await asked_to_store(server, headers, address="carol@example.org")).status_code == 200


# Whether a key still counts


async def test_an_ephemeral_key_is_known_by_the_exact_text_that_was_given_out(server: IdentityServer) -> None:
    headers = await server.account(ALICE)
    keys = [(await invited(server, headers))["public_keys"][1]["public_key"] for _ in range(12)]
    key = next(key for key in keys if set(key) & set("+/"))

    async def is_valid(spelling: str) -> bool:
        answer = await server.client.get(f"{V2}/pubkey/ephemeral/isvalid", params={"public_key": spelling})
        return bool(answer.json()["valid"])

    assert await is_valid(key)
    for other in (key.replace("+", "-").replace("/", "_"), f"{key}=", f" {key}", key[:-1], ""):
        assert not await is_valid(other)


async def test_an_ephemeral_key_is_no_long_term_one(server: IdentityServer) -> None:
    key = (await invited(server))["public_keys"][1]["public_key"]
    answer = await server.client.get(f"{V2}/pubkey/isvalid", params={"public_key": key})
    assert answer.json() == {"valid": False}


async def test_an_invitation_expires(make_server: MakeServer) -> None:
    async with make_server(invites={"lifetime": "2d"}) as server:
        invitation = await invited(server)
        server.clock.advance(hours=2 * DAY_HOURS - 0.01)
        assert await valid(server, invitation) == [True, True]
        server.clock.advance(hours=0.01)
        assert await valid(server, invitation) == [True, False]
        await server.bound(BOB, ADDRESS)
        assert (await notices(server, 1))[0]["invites"] == []


async def test_the_key_of_a_claimed_invitation_stays_valid(make_server: MakeServer) -> None:
    """The invitee's homeserver asks when it acts on the claim, and others when they join the room."""
    async with make_server(invites={"lifetime": "2d"}) as server:
        invitation = await invited(server)
        await server.bound(BOB, ADDRESS)
        server.clock.advance(hours=30 * DAY_HOURS)
        await purge(server.database, server.settings, now_ms=server.clock.now_ms())
        assert await valid(server, invitation) == [True, True]


async def test_what_nobody_claims_is_forgotten(make_server: MakeServer) -> None:
    async with make_server(invites={"lifetime": "2d"}) as server:
        await invited(server)
        await purge(server.database, server.settings, now_ms=server.clock.now_ms())
        assert await server.database.fast.value("SELECT count(*) FROM invites") == 1
        server.clock.advance(hours=3 * DAY_HOURS)
        await purge(server.database, server.settings, now_ms=server.clock.now_ms())
        assert await server.database.fast.value("SELECT count(*) FROM invites") == 0


# Taking it back


async def test_the_inviter_alone_takes_an_invitation_back(server: IdentityServer) -> None:
    alice, mallory = await server.account(ALICE), await server.account(MALLORY)
    invitation = await invited(server, alice)
    signurl = in_link(await link_sent(server))["signurl"]

    async def revoke(headers: dict[str, str]) -> int:
        body = {"token": invitation["token"]}
        return (await server.client.post(f"{OURS}/revoke-invite", json=body, headers=headers)).status_code

    assert [await revoke(mallory), await revoke({})] == [404, 401]
    assert await valid(server, invitation) == [True, True]
    assert [await revoke(alice), await revoke(alice)] == [200, 404]
    assert await valid(server, invitation) == [True, False]
    assert (await server.client.post(f"{signurl}&mxid={BOB}")).status_code == 404
    await server.bound(BOB, ADDRESS)
    assert (await notices(server, 1))[0]["invites"] == []


async def test_an_invitation_that_was_claimed_cannot_be_taken_back(server: IdentityServer) -> None:
    alice = await server.account(ALICE)
    invitation = await invited(server, alice)
    await server.bound(BOB, ADDRESS)
    answer = await server.client.post(f"{OURS}/revoke-invite", json={"token": invitation["token"]}, headers=alice)
    assert (answer.status_code, answer.json()["errcode"]) == (404, "M_NOT_FOUND")
    assert await valid(server, invitation) == [True, True]


# Claiming


async def test_whoever_binds_the_address_claims_its_invitations(server: IdentityServer) -> None:
    alice, mallory = await server.account(ALICE), await server.account(MALLORY)
    invitations = [
        await invited(server, alice, address="BOB@Example.org"),
        await invited(server, mallory, sender=MALLORY, room_id="!other:hs.test"),
    ]
    await invited(server, alice, address="carol@example.org")
    await server.bound(BOB, ADDRESS)
    (notice,) = await notices(server, 1)
    assert [name for name, _ in server.homeservers.told] == ["hs.test"]
    long_term = invitations[0]["public_keys"][0]["public_key"]
    assert (notice["medium"], notice["address"], notice["mxid"]) == ("email", ADDRESS, BOB)
    assert signers(notice, long_term) == ["ed25519:0"]
    claimed = {invite["signed"]["token"]: invite for invite in notice["invites"]}
    assert set(claimed) == {invitation["token"] for invitation in invitations}
    for invitation, sender, room_id in zip(invitations, (ALICE, MALLORY), (ROOM, "!other:hs.test"), strict=True):
        invite = claimed[invitation["token"]]
        signed = invite.pop("signed")
        assert invite == {"medium": "email", "address": ADDRESS, "mxid": BOB, "room_id": room_id, "sender": sender}
        assert without_signatures(signed) == {"mxid": BOB, "sender": sender, "token": invitation["token"]}
        assert signers(signed, invitation["public_keys"][0]["public_key"]) == ["ed25519:0"]


async def test_an_invitation_is_claimed_once_only(server: IdentityServer) -> None:
    await invited(server)
    await server.bound(BOB, ADDRESS)
    assert len((await notices(server, 1))[0]["invites"]) == 1
    await server.bound(MALLORY, ADDRESS, client_secret="other")
    assert (await notices(server, 2))[1]["invites"] == []


async def test_an_address_that_folds_to_the_same_claims_too(server: IdentityServer) -> None:
    await invited(server, address="STRAUSS@example.org")
    await server.bound(BOB, "strauß@example.org")
    assert len((await notices(server, 1))[0]["invites"]) == 1


async def test_a_phone_number_claims_what_waits_for_it(make_server: MakeServer) -> None:
    async with make_server(invites={"msisdn": True}) as server:
        invitation = await invited(server, **PHONE)
        await link_sent(server)
        bob = await server.account(BOB)
        answer = await server.client.post(
            f"{V2}/validate/msisdn/requestToken",
            json={"country": "GB", "phone_number": "07700900001", "client_secret": "s", "send_attempt": 1},
            headers=bob,
        )
        session = {"sid": answer.json()["sid"], "client_secret": "s"}
        token = server.outlet.sent[-1].context["token"]
        await server.client.post(f"{V2}/validate/msisdn/submitToken", json={**session, "token": token}, headers=bob)
        answer = await server.client.post(f"{V2}/3pid/bind", json={**session, "mxid": BOB}, headers=bob)
        assert answer.status_code == 200, answer.text
        (invite,) = (await notices(server, 1))[0]["invites"]
        assert (invite["medium"], invite["signed"]["token"]) == ("msisdn", invitation["token"])


async def test_after_a_roll_over_the_claim_is_signed_with_the_key_that_the_room_knows(make_server: MakeServer) -> None:
    async with make_server() as server:
        invitation = await invited(server)
        await link_sent(server)
        bob = await server.account(BOB)
        session = await server.proven(bob, ADDRESS)
        new = generate_key(server.settings.signing_key_file, FakeEntropy(1))
    async with make_server() as server:
        await server.client.post(f"{V2}/3pid/bind", json={**session, "mxid": BOB}, headers=bob)
        (notice,) = await notices(server, 1)
        assert await valid(server, invitation) == [True, True]
    (invite,) = notice["invites"]
    assert signers(invite["signed"], invitation["public_keys"][0]["public_key"]) == ["ed25519:0"]
    assert signers(invite["signed"], new.verify_key.base64) == ["ed25519:1"]
    assert signers(notice, new.verify_key.base64) == ["ed25519:1"]


# Signing an acceptance


async def test_the_link_has_the_acceptance_signed_by_the_key_that_only_the_message_bears(
    server: IdentityServer,
) -> None:
    invitation = await invited(server)
    signurl = in_link(await link_sent(server))["signurl"]
    answer = await server.client.post(f"{signurl}&mxid=%40bob%3Ahs.test")
    assert answer.status_code == 200, answer.text
    signed = answer.json()
    assert without_signatures(signed) == {"mxid": BOB, "sender": ALICE, "token": invitation["token"]}
    assert signers(signed, invitation["public_keys"][1]["public_key"]) == ["ed25519:0"]


async def test_a_link_with_another_key_or_token_signs_nothing(server: IdentityServer) -> None:
    headers = await server.account(ALICE)
    await invited(server, headers)
    signurl = in_link(await link_sent(server))["signurl"]
    path, given = signurl.partition("?")[0], {name: v[0] for name, v in parse_qs(urlsplit(signurl).query).items()}
    foreign = SigningKey.from_seed("ed25519:0", b"1" * 32).seed_base64
    for changed, status, errcode in (
        ({"private_key": foreign}, 403, "M_FORBIDDEN"),
        ({"private_key": "!"}, 400, "M_INVALID_PARAM"),
        ({"token": "unknown"}, 404, "M_UNRECOGNIZED"),
        ({"mxid": "bob"}, 400, "M_INVALID_PARAM"),
    ):
        answer = await server.client.post(path, params={**given, "mxid": BOB, **changed})
        assert (answer.status_code, answer.json()["errcode"]) == (status, errcode)
    answer = await server.client.post(path, params=given)
    assert (answer.status_code, answer.json()["errcode"]) == (400, "M_MISSING_PARAMS")


async def test_an_acceptance_is_signed_with_whichever_key_the_client_gives(server: IdentityServer) -> None:
    invitation = await invited(server)
    key = SigningKey.from_seed("ed25519:0", b"\xfb" * 32)  # both alphabets write it differently
    bob = await server.account(BOB)
    for private_key in (key.seed_base64, key.seed_base64.replace("+", "-").replace("/", "_")):
        body = {"mxid": BOB, "token": invitation["token"], "private_key": private_key}
        answer = await server.client.post(f"{V2}/sign-ed25519", json=body, headers=bob)
        assert answer.status_code == 200, answer.text
        assert (answer.json()["mxid"], answer.json()["sender"]) == (BOB, ALICE)
        assert signers(answer.json(), key.verify_key.base64) == ["ed25519:0"]


@pytest.mark.parametrize(
    ("changed", "status", "errcode"),
    [
        ({"token": "unknown"}, 404, "M_UNRECOGNIZED"),
        ({"private_key": "!"}, 400, "M_INVALID_PARAM"),
        ({"private_key": ""}, 400, "M_INVALID_PARAM"),
        ({"private_key": "ß" * 43}, 400, "M_INVALID_PARAM"),
        ({"private_key": "A" * 42}, 400, "M_INVALID_PARAM"),
        ({"private_key": "A" * 100}, 400, "M_INVALID_PARAM"),
        ({"private_key": 5}, 400, "M_INVALID_PARAM"),
        ({"mxid": "bob"}, 400, "M_INVALID_PARAM"),
    ],
)
async def test_a_wrong_acceptance_is_not_signed(
    server: IdentityServer, changed: dict[str, Any], status: int, errcode: str
) -> None:
    headers = await server.account(ALICE)
    invitation = await invited(server, headers)
    body = {"mxid": BOB, "token": invitation["token"], "private_key": "A" * 43, **changed}
    answer = await server.client.post(f"{V2}/sign-ed25519", json=body, headers=headers)
    assert (answer.status_code, answer.json()["errcode"]) == (status, errcode)


async def test_signing_without_the_link_needs_a_token(server: IdentityServer) -> None:
    body = {"mxid": BOB, "token": "token", "private_key": "A" * 43}
    answer = await server.client.post(f"{V2}/sign-ed25519", json=body)
    assert (answer.status_code, answer.json()["errcode"]) == (401, "M_UNAUTHORIZED")
