"""Requests to servers that we were told of by strangers.

Each goes only where strangers may send us: the address is checked that is really connected to, so neither a
redirect nor a name that resolves differently the second time leads inside. Each ends: in time and in size.
Nothing is taken from the environment (no proxy), and nothing is kept but connections (no cookies).
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import anyio
import httpcore
import httpx
import orjson

from identity_server.matrix.http import Answer, Endpoint, TooMuch, Unreachable
from identity_server.runtime.tls import connecting_context
from identity_server.settings import FederationSettings

_MAX_CONNECTIONS = 500
_MAX_IDLE_CONNECTIONS = 100
_KEEP_ALIVE_SECONDS = 30.0
_CONNECT_SECONDS = 10.0
_MAX_ADDRESSES = 8
_IDEMPOTENT = {"GET", "HEAD", "PUT", "DELETE"}
_REDIRECTS = {301, 302, 303, 307, 308}

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_IPV6_UNICAST = ipaddress.IPv6Network("2000::/3")  # all that is allotted; what lies outside is special
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Special too (IANA's registries), though Python before 3.13 calls them global; 6to4 could smuggle any IPv4 address.
_SPECIAL = tuple(ipaddress.ip_network(n) for n in ("192.0.0.0/24", "192.88.99.0/24", "2002::/16", "3fff::/20"))


def is_public(address: IPAddress) -> bool:
    """Whether ``address`` is a unicast address of the public Internet."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address not in _IPV6_UNICAST:
            return False
    elif address.is_multicast or address.is_reserved:
        return False
    return address.is_global and not any(address in network for network in _SPECIAL)


class SafeHttp:
    """The protocol's ``Http``; open while it is entered. ``tls``: instead of what the settings say about TLS."""

    def __init__(self, settings: FederationSettings, tls: ssl.SSLContext | None = None) -> None:
        self._timeout_seconds = settings.timeout / 1000
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls or connecting_context(settings.ca_file, is_verifying=settings.verify_certificates),
            max_connections=_MAX_CONNECTIONS,
            max_keepalive_connections=_MAX_IDLE_CONNECTIONS,
            keepalive_expiry=_KEEP_ALIVE_SECONDS,
            network_backend=_CheckedNetwork(settings.allowed_private_networks),
        )

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._pool.__aexit__(kind, error, traceback)

    async def request(
        self,
        method: str,
        target: Endpoint | str,
        path: str = "",
        *,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        redirects: int = 0,
        timeout_ms: int | None = None,
        max_bytes: int = 1024 * 1024,
    ) -> Answer:
        """One request, and the answer whatever its status. Raises ``Unreachable``.

        ``target`` is an endpoint to ask for ``path`` (percent-encoded, with its query), or a whole ``http`` or
        ``https`` URL. Up to ``redirects`` redirects of a GET are followed, never from HTTPS to HTTP, and without
        ``headers``; the answer after them is returned, be it a redirect too. ``max_bytes`` bounds the answer's body,
        ``timeout_ms`` the time in place of the settings.
        """
        sent = {"accept": "application/json", **(headers or {})}
        content = None if json is None else orjson.dumps(json)
        if content is not None:
            sent["content-type"] = "application/json"
        step = _Step("https", target, path) if isinstance(target, Endpoint) else _step(target)
        hops = redirects if method == "GET" else 0
        try:
            async with asyncio.timeout(self._timeout_seconds if timeout_ms is None else timeout_ms / 1000):
                answer = await self._exchange(method, step, sent, content, max_bytes)
                while hops and answer.status in _REDIRECTS and "location" in answer.headers:
                    hops -= 1
                    step = _redirected(step, answer.headers["location"])
                    answer = await self._exchange("GET", step, {"accept": sent["accept"]}, None, max_bytes)
        except TimeoutError as error:
            raise Unreachable(f"{step.endpoint.host_header}: no complete answer in time") from error
        except httpcore.TimeoutException as error:
            raise Unreachable(f"{step.endpoint.host_header}: cannot be connected to in time") from error
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise Unreachable(f"{step.endpoint.host_header}: {str(error) or type(error).__name__}") from error
        except ValueError as error:
            raise Unreachable(f"{step.endpoint.host_header}: no name that IDNA and TLS allow") from error
        return answer

    async def _exchange(
        self, method: str, step: "_Step", headers: Mapping[str, str], content: bytes | None, max_bytes: int
    ) -> Answer:
        endpoint = step.endpoint
        lines = {"host": endpoint.host_header, "accept-encoding": "identity", **headers}
        if content is not None or method in ("POST", "PUT"):
            lines["content-length"] = str(len(content or b""))
        # Connections are pooled by scheme, host and port. So the host is made of all that a connection stands for.
        pooled_by = f"{endpoint.certificate_name}\0{endpoint.host}"
        request = httpcore.Request(
            method,
            httpcore.URL(
                scheme=step.scheme.encode(),
                host=pooled_by.encode("ascii"),
                port=endpoint.port,
                target=step.path.encode("ascii"),
            ),
            headers=[(name.encode("ascii"), value.encode("ascii")) for name, value in lines.items()],
            content=content,
            extensions={"timeout": {"connect": _CONNECT_SECONDS}, "sni_hostname": endpoint.certificate_name},
        )
        try:
            response = await self._pool.handle_async_request(request)
        except (httpcore.RemoteProtocolError, httpcore.ReadError, httpcore.WriteError):
            # A server may close an idle connection just when it is used again (RFC 9112, section 9.3.1).
            if method not in _IDEMPOTENT:
                raise
            response = await self._pool.handle_async_request(request)
        try:
            body = bytearray()
            async for chunk in response.aiter_stream():
                body += chunk
                if len(body) > max_bytes:
                    raise TooMuch(f"{endpoint.host_header}: answers with more than {max_bytes} bytes")
        finally:
            await response.aclose()
        received = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        return Answer(response.status, received, bytes(body))


@dataclass(frozen=True)
class _Step:
    """One request on the way that redirects lead."""

    scheme: str
    endpoint: Endpoint
    path: str


def _step(url: str | httpx.URL) -> _Step:
    """Where ``url`` points. Raises ``Unreachable``."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise Unreachable("not a URL") from error
    if parsed.scheme not in ("http", "https") or not parsed.raw_host:
        raise Unreachable("not an HTTP URL")
    host = parsed.raw_host.decode("ascii")
    port = (443 if parsed.scheme == "https" else 80) if parsed.port is None else parsed.port
    if not 0 < port < 65536:
        raise Unreachable(f"{host}: not a port")
    return _Step(
        parsed.scheme, Endpoint(host, port, parsed.netloc.decode("ascii"), host), parsed.raw_path.decode("ascii")
    )


def _redirected(step: _Step, location: str) -> _Step:
    try:
        url = httpx.URL(f"{step.scheme}://{step.endpoint.host_header}{step.path}").join(location)
    except httpx.InvalidURL as error:
        raise Unreachable(f"{step.endpoint.host_header}: redirects to what is no URL") from error
    target = _step(url)
    if (step.scheme, target.scheme) == ("https", "http"):
        raise Unreachable(f"{step.endpoint.host_header}: redirects away from HTTPS")
    return target


class _CheckedNetwork(httpcore.AnyIOBackend):
    """Resolves a name itself, and connects to an address that it has checked."""

    def __init__(self, allowed_networks: tuple[IPNetwork, ...]) -> None:
        self._allowed_networks = allowed_networks

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 (httpcore's signature)
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        name = host.partition("\0")[2]
        with anyio.fail_after(timeout):
            addresses = [a for a in await _resolve(name, port) if self._may_reach(a)][:_MAX_ADDRESSES]
        failure: Exception = httpcore.ConnectError("has no address that may be reached")
        for address in addresses:
            try:
                return await super().connect_tcp(
                    str(address), port, timeout and timeout / len(addresses), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    def _may_reach(self, address: IPAddress) -> bool:
        return is_public(address) or any(address in network for network in self._allowed_networks)


async def _resolve(name: str, port: int) -> list[IPAddress]:
    """The addresses of ``name``, the best first (RFC 6724); IPv4-mapped ones as the IPv4 addresses that they are."""
    try:
        found = await anyio.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise httpcore.ConnectError("cannot be resolved") from error
    addresses = [ipaddress.ip_address(sockaddr[0]) for *_, sockaddr in found]
    return [getattr(address, "ipv4_mapped", None) or address for address in addresses]
