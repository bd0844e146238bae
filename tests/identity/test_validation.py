import asyncio
import re
from typing import Any

import pytest
from httpx import Response
from sqlalchemy import text

from identity_server.matrix.errors import EmailSendError
from tests.world import IdentityServer, MakeServer

V2 = "/_matrix/identity/v2"
EMAIL = {"email": "alice@example.org", "client_secret": "secret", "send_attempt": 1}
PHONE = {"country": "GB", "phone_number": "07700900001", "client_secret": "secret", "send_attempt": 1}


async def test_the_token_in_the_mail_proves_the_address(server: IdentityServer) -> None:
    headers = await server.account()
    answer = await server.client.post(f"{V2}/validate/email/requestToken", json=EMAIL, headers=headers)
    sid = answer.json()["sid"]
    [mail] = server.outlet.sent
    assert (mail.recipient, mail.template, len(mail.context["token"])) == ("alice@example.org", "verification", 32)
    session = {"sid": sid, "client_secret": "secret"}
    answer = await server.client.get(f"{V2}/3pid/getValidated3pid", params=session, headers=headers)
    assert (answer.status_code, answer.json()["errcode"]) == (400, "M_SESSION_NOT_VALIDATED")
    answer = await server.client.post(
        f"{V2}/validate/email/submitToken", json={**session, "token": mail.context["token"]}, headers=headers
    )
    assert answer.json() == {"success": True}
    answer = await server.client.get(f"{V2}/3pid/getValidated3pid", params=session, headers=headers)
    assert answer.json() == {
        "medium": "email",
        "address": "alice@example.org",
        "validated_at": server.clock.now_ms(),
    }


async def test_the_digits_in_the_sms_prove_the_phone_number(server: IdentityServer) -> None:
    headers = await server.account()
    answer = await server.client.post(f"{V2}/validate/msisdn/requestToken", json=PHONE, headers=headers)
    [sms] = server.outlet.sent
    assert sms.recipient == "447700900001"
    assert sms.context["domain"] == "is.test"
    assert len(sms.context["token"]) == 6
    session = {"sid": answer.json()["sid"], "client_secret": "secret"}
    await server.client.post(
        f"{V2}/validate/msisdn/submitToken", json={**session, "token": sms.context["token"]}, headers=headers
    )
    answer = await server.client.get(f"{V2}/3pid/getValidated3pid", params=session, headers=headers)
    assert (answer.json()["medium"], answer.json()["address"]) == ("msisdn", "447700900001")


@pytest.mark.parametrize(
    "address", ["", "alice", "alice@", "@example.org", "a b@c.d", "a@b@c", "a@b..c", "a@b\r\nBcc: x", "a@٣.org"]
)
async def test_what_is_no_email_address_is_refused(server: IdentityServer, address: str) -> None:
    answer = await server.client.post(
        f"{V2}/validate/email/requestToken", json={**EMAIL, "email": address}, headers=await server.account()
    )
    assert (answer.status_code, answer.json()["errcode"]) == (400, "M_INVALID_EMAIL")
    assert server.outlet.sent == []


@pytest.mark.parametrize("number", ["", "abc", "12", "+999123456789123456", "+49301234567890123"])
async def test_what_is_no_phone_number_is_refused(server: IdentityServer, number: str) -> None:
    answer = await server.client.post(
        f"{V2}/validate/msisdn/requestToken", json={**PHONE, "phone_number": number}, headers=await server.account()
    )
    assert (answer.status_code, answer.json()["errcode"]) == (400, "M_INVALID_ADDRESS")


@pytest.mark.parametrize(("country", "number"), [("US", "5551234"), ("GB", "0000"), ("DE", "110")])
async def test_a_number_that_is_one_in_its_own_town_only_is_refused(
    server: IdentityServer, country: str, number: str
) -> None:
    body = {**PHONE, "country": country, "phone_number": number}
    answer = await server.client.post(f"{V2}/validate/msisdn/requestToken", json=body, headers=await server.account())
    assert (answer.status_code, answer.json()["errcode"]) == (400, "M_INVALID_ADDRESS")
    assert server.outlet.sent == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("client_secret", ""),
        ("client_secret", "with space"),
        ("client_secret", "x" * 256),
        ("client_secret", 5),
        ("send_attempt", "many"),
        ("send_attempt", False),
        ("send_attempt", 1.5),
        ("send_attempt", -1),
        ("next_link", "javascript:alert(1)"),
        ("next_link", "https://evil.test/"),
        ("next_link", "https://is.test@evil.test/"),
        ("next_link", "https://is.test\\@evil.test/"),
        ("next_link", "//is.test/"),
        ("next_link", "https://is.test:8443/"),
        ("next_link", 7),
    ],
)
async def test_a_wrong_parameter_is_refused_and_sends_nothing(
    server: IdentityServer, field: str, value: object
) -> None:
    answer = await server.client.post(
        f"{V2}/validate/email/requestToken", json={**EMAIL, field: value}, headers=await server.account()
    )
    assert (answer.status_code, answer.json()["errcode"]) == (400, "M_INVALID_PARAM")
    assert server.outlet.sent == []


async def test_each_send_attempt_sends_one_message_and_a_higher_one_another(server: IdentityServer) -> None:
    headers = await server.account()

    async def request(send_attempt: object) -> str:
        body = {**EMAIL, "send_attempt": send_attempt}
        answer = await server.client.post(f"{V2}/validate/email/requestToken", json=body, headers=headers)
        return str(answer.json()["sid"])

    sids = {await request(attempt) for attempt in (2, 2, "2", 1, 3, "3")}
    assert (len(sids), len(server.outlet.sent)) == (1, 2)


async def test_the_same_request_many_times_at_once_sends_one_message(server: IdentityServer) -> None:
    headers = await server.account()
    requests = (server.client.post(f"{V2}/validate/email/requestToken", json=EMAIL, headers=headers) for _ in range(10))
    answers = await asyncio.gather(*requests)
    assert ({answer.status_code for answer in answers}, len({answer.json()["sid"] for answer in answers})) == ({200}, 1)
    assert len(server.outlet.sent) == 1


async def test_every_message_that_was_sent_for_a_session_counts(server: IdentityServer) -> None:
    headers = await server.account()
    for attempt in (1, 2):
        body = {**EMAIL, "send_attempt": attempt}
        sid = (await server.client.post(f"{V2}/validate/email/requestToken", json=body, headers=headers)).json()["sid"]
    first, _second = server.outlet.sent
    answer = await server.client.post(
        f"{V2}/validate/email/submitToken",
        json={"sid": sid, "client_secret": "secret", "token": first.context["token"]},
        headers=headers,
    )
    assert answer.json() == {"success": True}


async def test_a_message_that_cannot_be_sent_is_said_and_may_be_tried_again(server: IdentityServer) -> None:
    headers = await server.account()
    server.outlet.failing = True
    answer = await server.client.post(f"{V2}/validate/email/requestToken", json=EMAIL, headers=headers)
    assert (answer.status_code, answer.json()["errcode"]) == (400, "M_EMAIL_SEND_ERROR")
    answer = await server.client.post(f"{V2}/validate/msisdn/requestToken", json=PHONE, headers=headers)
    assert (answer.status_code, answer.json()["errcode"]) == (400, "M_SEND_ERROR")
    server.outlet.failing = False
    answer = await server.client.post(f"{V2}/validate/email/requestToken", json=EMAIL, headers=headers)
    assert (answer.status_code, len(server.outlet.sent)) == (200, 1)


async def test_a_wrong_token_is_incorrect_and_too_many_end_the_session(make_server: MakeServer) -> None:
    async with make_server(validation={"max_wrong_tokens": 3}) as server:
        headers = await server.account()
        sid = (await server.client.post(f"{V2}/validate/msisdn/requestToken", json=PHONE, headers=headers)).json()[
            "sid"
        ]

        async def submit(token: str) -> tuple[int, str]:
            body = {"sid": sid, "client_secret": "secret", "token": token}
            answer = await server.client.post(f"{V2}/validate/msisdn/submitToken", json=body, headers=headers)
            return answer.status_code, answer.json().get("errcode")

        right = server.outlet.sent[-1].context["token"]
        for _ in range(3):
            assert await submit("wrong") == (400, "M_TOKEN_INCORRECT")
        assert await submit(right) == (400, "M_SESSION_EXPIRED")
        # Another message begins another session: the user is not stuck.
        body = {**PHONE, "send_attempt": 2}
        again = await server.client.post(f"{V2}/validate/msisdn/requestToken", json=body, headers=headers)
        assert again.json()["sid"] != sid
        sid = again.json()["sid"]
        assert await submit(server.outlet.sent[-1].context["token"]) == (200, None)


async def test_a_session_is_known_by_both_its_id_and_its_secret(server: IdentityServer) -> None:
    headers = await server.account()
    session = await server.proven(headers)
    for wrong in ({"sid": "other"}, {"client_secret": "other"}):
        answer = await server.client.get(f"{V2}/3pid/getValidated3pid", params={**session, **wrong}, headers=headers)
        assert (answer.status_code, answer.json()["errcode"]) == (404, "M_NO_VALID_SESSION")
        body = {**session, **wrong, "token": "x"}
        answer = await server.client.post(f"{V2}/validate/email/submitToken", json=body, headers=headers)
        assert (answer.status_code, answer.json()["errcode"]) == (404, "M_NO_VALID_SESSION")


async def test_a_session_lives_a_day_from_its_last_change(server: IdentityServer) -> None:
    headers = await server.account()
    sid = (await server.client.post(f"{V2}/validate/email/requestToken", json=EMAIL, headers=headers)).json()["sid"]
    session = {"sid": sid, "client_secret": "secret"}
    token = server.outlet.sent[-1].context["token"]
    server.clock.advance(hours=23.9)
    body = {**session, "token": token}
    answer = await server.client.post(f"{V2}/validate/email/submitToken", json=body, headers=headers)
    assert answer.json() == {"success": True}
    server.clock.advance(hours=23.9)
    answer = await server.client.get(f"{V2}/3pid/getValidated3pid", params=session, headers=headers)
    assert answer.status_code == 200
    server.clock.advance(hours=0.2)
    for method, path, kind in (
        ("GET", "/3pid/getValidated3pid", "params"),
        ("POST", "/validate/email/submitToken", "json"),
    ):
        answer = await server.client.request(method, V2 + path, headers=headers, **{kind: body})
        assert (answer.status_code, answer.json()["errcode"]) == (400, "M_SESSION_EXPIRED")
    again = await server.client.post(f"{V2}/validate/email/requestToken", json=EMAIL, headers=headers)
    assert again.json()["sid"] != sid
    assert len(server.outlet.sent) == 2


async def test_what_was_proven_is_not_proven_longer_by_another_message(server: IdentityServer) -> None:
    headers = await server.account()
    session = await server.proven(headers)
    server.clock.advance(hours=23)
    again = await server.client.post(
        f"{V2}/validate/email/requestToken", json={**EMAIL, "send_attempt": 2}, headers=headers
    )
    assert (again.json()["sid"], len(server.outlet.sent)) == (session["sid"], 2)
    body = {**session, "token": server.outlet.sent[-1].context["token"]}
    answer = await server.client.post(f"{V2}/validate/email/submitToken", json=body, headers=headers)
    assert answer.json() == {"success": True}
    server.clock.advance(hours=1)
    answer = await server.client.get(f"{V2}/3pid/getValidated3pid", params=session, headers=headers)
    assert (answer.status_code, answer.json()["errcode"]) == (400, "M_SESSION_EXPIRED")


async def stored_session(server: IdentityServer) -> tuple[Any, ...]:
    columns = "send_attempt, next_link, modified_ts, validated_ts, superseded"
    async with server.database.reading() as session:
        [row] = await session.execute(text(f"SELECT {columns} FROM validation_sessions"))
        return tuple(row)


async def test_a_message_that_cannot_be_sent_leaves_the_session_as_it_was(server: IdentityServer) -> None:
    headers = await server.account()
    await server.client.post(
        f"{V2}/validate/email/requestToken", json={**EMAIL, "next_link": "https://is.test/first"}, headers=headers
    )
    before = await stored_session(server)
    server.clock.advance(hours=1)
    server.outlet.failing = True
    body = {**EMAIL, "send_attempt": 2, "next_link": "https://is.test/second"}
    answer = await server.client.post(f"{V2}/validate/email/requestToken", json=body, headers=headers)
    assert answer.json()["errcode"] == "M_EMAIL_SEND_ERROR"
    assert await stored_session(server) == before


async def test_a_message_that_cannot_be_sent_takes_nothing_from_a_later_one(
    server: IdentityServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = await server.account()

    async def request(send_attempt: int) -> Response:
        body = {**EMAIL, "send_attempt": send_attempt, "next_link": f"https://is.test/{send_attempt}"}
        return await server.client.post(f"{V2}/validate/email/requestToken", json=body, headers=headers)

    await request(1)
    send, is_sending, fails = server.outlet.send_email, asyncio.Event(), asyncio.Event()

    async def send_in_vain(*_message: Any) -> None:
        monkeypatch.setattr(server.outlet, "send_email", send)
        is_sending.set()
        await fails.wait()
        raise EmailSendError("The email could not be sent")

    monkeypatch.setattr(server.outlet, "send_email", send_in_vain)
    second = asyncio.create_task(request(2))
    await is_sending.wait()
    server.clock.advance(hours=1)
    await request(3)
    after = await stored_session(server)
    fails.set()
    assert (await second).json()["errcode"] == "M_EMAIL_SEND_ERROR"
    assert await stored_session(server) == after
    assert after[:3] == (3, "https://is.test/3", server.clock.now_ms())


async def test_forms_are_understood_as_older_drafts_had_them(server: IdentityServer) -> None:
    answer = await server.client.post(f"{V2}/validate/email/requestToken", data=EMAIL, headers=await server.account())
    assert answer.status_code == 200


async def test_the_mail_goes_to_the_address_that_it_proves(server: IdentityServer) -> None:
    headers = await server.account()
    await server.proven(headers, address="Strauß@Example.org")
    assert server.outlet.sent[-1].recipient == "strauss@example.org"


async def test_a_mailbox_is_sent_to_as_often_as_is_allowed_however_its_domain_is_written(
    make_server: MakeServer,
) -> None:
    async with make_server(rate_limits={"request_token_per_address": "2/day"}) as server:
        headers = await server.account()
        statuses = []
        for domain in ("bücher.de", "ｂücher.de", "xn--bcher-kva.de", "BÜCHER.de", "bücher.example"):
            body = {**EMAIL, "email": f"alice@{domain}", "client_secret": f"secret-{len(statuses)}"}
            answer = await server.client.post(f"{V2}/validate/email/requestToken", json=body, headers=headers)
            statuses.append(answer.status_code)
    assert statuses == [200, 200, 429, 429, 200]


@pytest.mark.parametrize(
    ("lifetime", "said"),
    [
        ("24h", {"en": "24 hours", "fr": "24 heures", "de": "24 Stunden"}),
        ("2h", {"en": "2 hours", "fr": "2 heures", "de": "2 Stunden"}),
        ("150m", {"en": "150 minutes", "fr": "150 minutes", "de": "150 Minuten"}),
        ("90m", {"en": "90 minutes", "fr": "90 minutes", "de": "90 Minuten"}),
        ("1h", {"en": "60 minutes", "fr": "60 minutes", "de": "60 Minuten"}),
        ("20s", {"en": "1 minute", "fr": "1 minute", "de": "1 Minute"}),
    ],
)
async def test_the_mail_says_how_long_its_token_is_valid(
    make_server: MakeServer, lifetime: str, said: dict[str, str]
) -> None:
    async with make_server(validation={"session_lifetime": lifetime}) as server:
        headers = await server.account()
        for language, duration in said.items():
            await server.client.post(
                f"{V2}/validate/email/requestToken",
                json={**EMAIL, "client_secret": language},
                headers={**headers, "Accept-Language": language},
            )
            mail = server.outlet.sent[-1]
            for body in (mail.text, str(mail.html)):
                assert re.search(rf"\b{duration}(\.| lang)", body)


async def test_no_validation_token_is_stored_in_the_clear(server: IdentityServer) -> None:
    await server.proven(await server.account())
    stored = await server.database.fast.value("SELECT token_hash FROM validation_tokens")
    assert server.outlet.sent[-1].context["token"].encode() not in stored


@pytest.mark.parametrize("path", ["requestToken", "submitToken"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_medium_that_cannot_be_validated_has_no_endpoint(
    server: IdentityServer, method: str, path: str
) -> None:
    headers = await server.account()
    for of_whom in (headers, {}):
        answer = await server.client.request(
            method, f"{V2}/validate/foo/{path}", json=EMAIL if method == "POST" else None, headers=of_whom
        )
        assert (answer.status_code, answer.json()["errcode"]) == (404, "M_UNRECOGNIZED")


async def test_validating_needs_a_token(server: IdentityServer) -> None:
    for path, body in (("email/requestToken", EMAIL), ("msisdn/requestToken", PHONE)):
        answer = await server.client.post(f"{V2}/validate/{path}", json=body)
        assert (answer.status_code, answer.json()["errcode"]) == (401, "M_UNAUTHORIZED")
