"""How bodies are read, and what is said of those that cannot be."""

import pytest

from tests.world import IdentityServer

V2 = "/_matrix/identity/v2"


@pytest.mark.parametrize(
    "kind", ["Application/X-WWW-Form-URLEncoded", "application/x-www-form-urlencoded; charset=UTF-8"]
)
async def test_a_form_is_one_however_its_media_type_is_written(server: IdentityServer, kind: str) -> None:
    form = b"email=alice%40example.org&client_secret=secret&send_attempt=1"
    headers = {**await server.account(), "Content-Type": kind}
    answer = await server.client.post(f"{V2}/validate/email/requestToken", content=form, headers=headers)
    assert (answer.status_code, list(answer.json())) == (200, ["sid"])


async def test_what_is_wrong_with_a_value_is_said_in_our_own_words(server: IdentityServer) -> None:
    headers = await server.account()
    body = {"sid": "1", "client_secret": "secret", "token": "\0"}
    answer = await server.client.post(f"{V2}/validate/email/submitToken", json=body, headers=headers)
    assert answer.json() == {"errcode": "M_INVALID_PARAM", "error": "token: must not contain NUL"}
