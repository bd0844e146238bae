"""HEAD is answered as GET, and a wrong method with the right ones (RFC 9110, sections 9.3.2 and 15.5.6)."""

from pathlib import Path
from typing import Any

import pytest
from httpx import AsyncClient

from identity_server.demo.serving import free_port, listen, port_of, serving, serving_homeserver
from identity_server.identity.application import identity_application
from identity_server.settings import Settings
from tests.world import IdentityServer, MakeServer

V2 = "/_matrix/identity/v2"
LINK = f"{V2}/validate/email/submitToken"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", f"{V2}/terms", "GET, HEAD, OPTIONS, POST"),
        ("HEAD", f"{V2}/lookup", "OPTIONS, POST"),
        ("GET", f"{V2}/3pid/bind", "OPTIONS, POST"),
        ("PUT", f"{V2}/pubkey/ed25519%2F0", "GET, HEAD, OPTIONS"),
        ("HEAD", LINK, "GET, OPTIONS, POST"),
    ],
)
async def test_who_uses_a_wrong_method_is_told_the_right_ones(
    server: IdentityServer, method: str, path: str, allowed: str
) -> None:
    answer = await server.client.request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_an_unknown_path_has_no_methods(server: IdentityServer) -> None:
    for method in ("GET", "HEAD"):
        answer = await server.client.request(method, f"{V2}/nothing")
        assert (answer.status_code, "allow" in answer.headers) == (404, False)


def without_date(answer: Any) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name != "date"}


async def test_head_is_answered_as_get_by_both_servers_without_the_body(tmp_path: Path) -> None:
    port, federation_port = free_port(), free_port()
    settings = Settings(
        server={"data_dir": tmp_path},
        homeserver={"name": f"localhost:{federation_port}", "port": port, "federation_port": federation_port},
    )
    with listen() as listener:
        async with (
            serving(identity_application(settings), listener),
            serving_homeserver(settings),
            AsyncClient() as client,
        ):
            for url, status in (
                (f"http://127.0.0.1:{port_of(listener)}/_matrix/identity/versions", 200),
                (f"http://127.0.0.1:{port_of(listener)}/health", 200),
                (f"http://127.0.0.1:{port_of(listener)}{V2}/account", 401),
                (f"http://127.0.0.1:{port}/_matrix/client/versions", 200),
                (f"http://127.0.0.1:{port}/_matrix/client/v3/account/whoami", 401),
            ):
                got, head = await client.get(url), await client.head(url)
                assert (got.status_code, head.status_code) == (status, status), url
                assert without_date(head) == without_date(got)
                assert (head.content, got.content != b"") == (b"", True)


async def test_head_follows_no_link(make_server: MakeServer) -> None:
    async with make_server(validation={"confirm_links": False}) as server:
        body = {"email": "alice@example.org", "client_secret": "secret", "send_attempt": 1}
        headers = await server.account()
        await server.client.post(f"{V2}/validate/email/requestToken", json=body, headers=headers)
        context = server.outlet.sent[-1].context
        assert (await server.client.head(context["link"])).status_code == 405
        session = {
            name: context["link"].partition(f"{name}=")[2].partition("&")[0] for name in ("sid", "client_secret")
        }
        asked = await server.client.get(f"{V2}/3pid/getValidated3pid", params=session, headers=headers)
        assert asked.json()["errcode"] == "M_SESSION_NOT_VALIDATED"
