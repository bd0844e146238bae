import asyncio
import ipaddress
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trustme

from identity_server.matrix.http import Endpoint, Unreachable
from identity_server.runtime.safe_http import SafeHttp, is_public
from identity_server.settings import FederationSettings

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

Respond = Callable[[str, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Server:
    """A real server on loopback, and what reached it."""

    port: int = 0
    connections: int = 0
    server_names: list[str | None] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @property
    def hosts(self) -> list[str]:
        return [line[6:] for request in self.requests for line in request.split("\r\n") if line.startswith("host: ")]


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def settings(authority: trustme.CA, tmp_path: Path) -> FederationSettings:
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(ca_file))
    return FederationSettings(ca_file=ca_file, allowed_private_networks=LOOPBACK, timeout=3000)


@pytest.fixture
async def http(settings: FederationSettings) -> AsyncIterator[SafeHttp]:
    async with SafeHttp(settings) as opened:
        yield opened


async def say_ok(_path: str, writer: asyncio.StreamWriter) -> None:
    writer.write(OK)


@asynccontextmanager
async def serving(
    authority: trustme.CA | None, *names: str, respond: Respond = say_ok, address: str = "127.0.0.1"
) -> AsyncIterator[Server]:
    server = Server()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next((int(x[15:]) for x in head.lower().split("\r\n") if x.startswith("content-length:")), 0)
                server.requests.append(head.lower() + (await reader.readexactly(length)).decode())
                await respond(head.split(" ")[1], writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass
        finally:
            writer.close()

    context = None
    if authority is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*names).configure_cert(context)
        context.sni_callback = lambda _socket, name, _context: server.server_names.append(name)
    listener = await asyncio.start_server(serve, address, 0, ssl=context)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        await listener.wait_closed()


def responding(head: str, body: bytes = b"") -> Respond:
    async def respond(_path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)

    return respond


async def test_an_answer_has_status_headers_and_body(http: SafeHttp, authority: trustme.CA) -> None:
    respond = responding("404 Not Found\r\nX-Thing: a", b'{"errcode":"M_NOT_FOUND"}')
    async with serving(authority, "localhost", respond=respond) as server:
        answer = await http.request("POST", f"https://localhost:{server.port}/a?b=%2F", json={"c": 1})
    assert (answer.status, answer.headers["x-thing"], answer.json()) == (404, "a", {"errcode": "M_NOT_FOUND"})
    assert server.requests[0].startswith("post /a?b=%2f http/1.1\r\n")
    assert server.requests[0].endswith('\r\n\r\n{"c":1}')
    assert server.hosts == [f"localhost:{server.port}"]


async def test_a_delegated_server_is_asked_and_verified_by_another_name(http: SafeHttp, authority: trustme.CA) -> None:
    async with serving(authority, "matrix.example.org") as server:
        endpoint = Endpoint("localhost", server.port, "matrix.example.org", "matrix.example.org")
        answer = await http.request("GET", endpoint, "/_matrix/key/v2/server?x=%2F%20y")
    assert answer.status == 200
    assert (server.hosts, server.server_names) == (["matrix.example.org"], ["matrix.example.org"])
    assert server.requests[0].startswith("get /_matrix/key/v2/server?x=%2f%20y http/1.1\r\n")


async def test_a_certificate_for_the_host_is_no_certificate_for_the_name(http: SafeHttp, authority: trustme.CA) -> None:
    async with serving(authority, "localhost") as server:
        endpoint = Endpoint("localhost", server.port, "matrix.example.org", "matrix.example.org")
        with pytest.raises(Unreachable, match="certificate"):
            await http.request("GET", endpoint, "/")
    assert server.requests == []


async def test_an_ip_literal_needs_a_certificate_for_the_address_and_sends_no_server_name(
    http: SafeHttp, authority: trustme.CA
) -> None:
    async with serving(authority, "127.0.0.1") as server:
        endpoint = Endpoint("127.0.0.1", server.port, f"127.0.0.1:{server.port}", "127.0.0.1")
        assert (await http.request("GET", endpoint, "/")).status == 200
    assert server.server_names == [None]
    async with serving(authority, "localhost") as server:
        endpoint = Endpoint("127.0.0.1", server.port, f"127.0.0.1:{server.port}", "127.0.0.1")
        with pytest.raises(Unreachable, match="certificate"):
            await http.request("GET", endpoint, "/")


async def test_an_unknown_authority_is_refused_unless_certificates_are_not_verified(
    http: SafeHttp, settings: FederationSettings
) -> None:
    async with serving(trustme.CA(), "elsewhere.example") as server:
        url = f"https://localhost:{server.port}/"
        with pytest.raises(Unreachable, match="certificate"):
            await http.request("GET", url)
        async with SafeHttp(settings.model_copy(update={"verify_certificates": False})) as careless:
            assert (await careless.request("GET", url)).status == 200


async def test_a_connection_is_used_again_for_the_same_name_only(http: SafeHttp, authority: trustme.CA) -> None:
    async with serving(authority, "one.example", "two.example") as server:
        one = Endpoint("127.0.0.1", server.port, "one.example", "one.example")
        two = Endpoint("127.0.0.1", server.port, "two.example", "two.example")
        for endpoint in (one, one, two, one):
            await http.request("GET", endpoint, "/")
        three = Endpoint("127.0.0.1", server.port, "one.example", "three.example")
        with pytest.raises(Unreachable):
            await http.request("GET", three, "/")
    assert (len(server.requests), server.server_names) == (4, ["one.example", "two.example", "three.example"])


async def test_two_places_that_serve_one_name_are_not_mixed_up(http: SafeHttp, authority: trustme.CA) -> None:
    async with serving(authority, "one.example") as here, serving(authority, "one.example", address="127.0.0.2"):
        first = Endpoint("127.0.0.1", here.port, "one.example", "one.example")
        elsewhere = Endpoint("127.0.0.3", here.port, "one.example", "one.example")
        assert (await http.request("GET", first, "/")).status == 200
        with pytest.raises(Unreachable):
            await http.request("GET", elsewhere, "/")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "0.0.0.0"])
async def test_nothing_connects_inside_unless_it_is_allowed(host: str) -> None:
    async with SafeHttp(FederationSettings()) as http, serving(None) as server:
        with pytest.raises(Unreachable):
            await http.request("GET", f"http://{host}:{server.port}/")
    assert server.connections == 0


async def test_an_ipv4_address_in_ipv6_clothes_is_allowed_as_what_it_is(http: SafeHttp) -> None:
    async with serving(None) as server:
        answer = await http.request("GET", f"http://[::ffff:127.0.0.1]:{server.port}/")
    assert answer.status == 200


async def test_a_redirect_does_not_lead_inside(authority: trustme.CA, settings: FederationSettings) -> None:
    one_address = settings.model_copy(update={"allowed_private_networks": (ipaddress.ip_network("127.0.0.1/32"),)})
    async with serving(authority, "127.0.0.2", address="127.0.0.2") as inside:
        respond = responding(f"302 Found\r\nLocation: https://127.0.0.2:{inside.port}/secret")
        async with serving(authority, "localhost", respond=respond) as server, SafeHttp(one_address) as http:
            with pytest.raises(Unreachable, match=r"127\.0\.0\.2"):
                await http.request("GET", f"https://localhost:{server.port}/", redirects=3)
    assert inside.connections == 0


async def test_redirects_are_followed_so_often_and_without_our_headers(http: SafeHttp, authority: trustme.CA) -> None:
    async def respond(path: str, writer: asyncio.StreamWriter) -> None:
        hop = int(path.strip("/"))
        await (say_ok if hop == 3 else responding(f"307 On\r\nLocation: /{hop + 1}"))(path, writer)

    async with serving(authority, "localhost", respond=respond) as server:
        url = f"https://localhost:{server.port}/0"
        assert (await http.request("GET", url)).status == 307
        assert (await http.request("GET", url, redirects=2)).status == 307
        assert (await http.request("POST", url, redirects=3)).status == 307
        server.requests.clear()
        assert (await http.request("GET", url, redirects=3, headers={"authorization": "secret"})).status == 200
    assert ["secret" in request for request in server.requests] == [True, False, False, False]


async def test_a_redirect_away_from_https_is_refused(http: SafeHttp, authority: trustme.CA) -> None:
    async with serving(None) as plain:
        respond = responding(f"301 Moved\r\nLocation: http://localhost:{plain.port}/")
        async with serving(authority, "localhost", respond=respond) as server:
            with pytest.raises(Unreachable, match="away from HTTPS"):
                await http.request("GET", f"https://localhost:{server.port}/", redirects=1)
    assert plain.connections == 0


async def test_too_much_is_not_read(http: SafeHttp, authority: trustme.CA) -> None:
    async def endless(_path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(1000):
            writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
            await writer.drain()

    async with serving(authority, "localhost", respond=endless) as server:
        with pytest.raises(Unreachable, match="more than 1048576 bytes"):
            await http.request("GET", f"https://localhost:{server.port}/")
    async with serving(authority, "localhost", respond=responding("200 OK", b"x" * 11)) as server:
        with pytest.raises(Unreachable, match="more than 10 bytes"):
            await http.request("GET", f"https://localhost:{server.port}/", max_bytes=10)
        assert len((await http.request("GET", f"https://localhost:{server.port}/", max_bytes=11)).body) == 11


async def test_a_server_that_drips_is_left_in_time(settings: FederationSettings, authority: trustme.CA) -> None:
    async def drip(_path: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        for _ in range(100):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with (
        serving(authority, "localhost", respond=drip) as server,
        SafeHttp(settings.model_copy(update={"timeout": 300})) as http,
    ):
        begun = time.monotonic()
        with pytest.raises(Unreachable, match="in time"):
            await http.request("GET", f"https://localhost:{server.port}/")
    assert time.monotonic() - begun < 1.5


async def test_the_error_tells_no_path_and_no_query(http: SafeHttp, authority: trustme.CA) -> None:
    async with serving(authority, "elsewhere.example") as server:
        targets = (
            f"https://localhost:{server.port}/path?access_token=secret",
            "https://localhost:1/path?access_token=secret",
            "https://no\nhost/path?access_token=secret",
            "https://.example/path?access_token=secret",
            "https://localhost:99999/path?access_token=secret",
            "https://localhost:0/path?access_token=secret",
            "gopher://localhost/path?access_token=secret",
            "https:///path?access_token=secret",
        )
        for target in targets:
            with pytest.raises(Unreachable) as caught:
                await http.request("GET", target)
            assert "secret" not in str(caught.value)
            assert "path" not in str(caught.value)
            assert not str(caught.value).endswith(": ")


async def test_neither_proxies_nor_cookies_are_taken_up(
    authority: trustme.CA, settings: FederationSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
        monkeypatch.setenv(name.lower(), "http://127.0.0.1:1")
    async with SafeHttp(settings) as http:
        respond = responding("200 OK\r\nSet-Cookie: a=b")
        async with serving(authority, "localhost", respond=respond) as server:
            for _ in range(2):
                await http.request("GET", f"https://localhost:{server.port}/")
    assert not any("cookie" in request for request in server.requests)


async def test_a_connection_that_was_closed_without_a_word_costs_nothing(http: SafeHttp, authority: trustme.CA) -> None:
    async def once(path: str, writer: asyncio.StreamWriter) -> None:
        await say_ok(path, writer)
        await writer.drain()
        writer.close()

    async with serving(authority, "localhost", respond=once) as server:
        for _ in range(3):
            assert (await http.request("GET", f"https://localhost:{server.port}/")).status == 200
            await asyncio.sleep(0.05)
    assert server.connections == 3


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.0.0.1",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.9",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:8.8.8.8",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:db8::1",
        "2002:7f00:1::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00::1",
        "fe80::1",
        "fec0::1",
        "ff02::1",
    ],
)
def test_special_addresses_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "2a00:1450::1", "64:ff9b::808:808"])
def test_the_public_internet_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))
