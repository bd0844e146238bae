"""Where a homeserver is to be reached (Server-Server API, "Resolving server names"); the steps are numbered there."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import NamedTuple, Protocol

from identity_server.matrix.http import Answer, Endpoint, Http, Unreachable
from identity_server.matrix.identifiers import HostAndPort, split_server_name
from identity_server.matrix.single_flight import SingleFlight

DEFAULT_PORT = 8448

_WELL_KNOWN = "/.well-known/matrix/server"
_WELL_KNOWN_MAX_BYTES = 50 * 1024
_WELL_KNOWN_REDIRECTS = 10
_DEFAULT_LIFETIME_MS = 24 * 3_600_000
_LONGEST_LIFETIME_MS = 48 * 3_600_000
_FIRST_PAUSE_MS = 60_000
_LONGEST_PAUSE_MS = 3_600_000
_MAX_CACHED = 10_000


class SrvRecord(NamedTuple):
    """RFC 2782; ``target`` is "." if the service is decidedly not offered."""

    priority: int
    weight: int
    port: int
    target: str


class Srv(Protocol):
    async def srv(self, name: str) -> Sequence[SrvRecord]:
        """The records of ``name``, or none."""


@dataclass(frozen=True)
class _Delegation:
    """What a host's .well-known file said: the server name that it delegates to, if it said so."""

    server_name: str | None
    expires_ts: int
    failures: int = 0


class Discovery:
    """Finds endpoints, and remembers what .well-known files say.

    ``below(n)`` draws an integer evenly from 0 to n - 1; it spreads the load over SRV records of equal priority.
    """

    def __init__(self, http: Http, dns: Srv, *, below: Callable[[int], int]) -> None:
        self._http = http
        self._dns = dns
        self._below = below
        self._delegations: OrderedDict[str, _Delegation] = OrderedDict()
        self._flights: SingleFlight[str, _Delegation] = SingleFlight()

    async def endpoints(self, server_name: str, *, now_ms: int) -> Sequence[Endpoint]:
        """Where to reach ``server_name``, at least one place, to be tried in order.

        Raises ``ValueError`` for what is no server name, ``Unreachable`` if its DNS says that it serves nobody.
        """
        named = split_server_name(server_name)
        if named.is_ip or named.port is not None:
            return _literal_endpoint(server_name, named)  # Steps 1, 2
        delegated_name = await self._delegated(named.host, now_ms)  # Step 3
        if delegated_name is not None:
            delegated = split_server_name(delegated_name)
            if delegated.is_ip or delegated.port is not None:
                return _literal_endpoint(delegated_name, delegated)  # Steps 3.1, 3.2
            return await self._looked_up(delegated.host)  # Steps 3.3 to 3.5
        return await self._looked_up(named.host)  # Steps 4 to 6

    async def _looked_up(self, hostname: str) -> Sequence[Endpoint]:
        for service in ("_matrix-fed", "_matrix"):  # Steps 3.3, 4; then the deprecated 3.4, 5
            records = await self._dns.srv(f"{service}._tcp.{hostname}")
            offered = [record for record in records if record.target != "."]
            if records and not offered:
                raise Unreachable(f"{hostname}: its DNS says that it does not offer the service")
            if offered:
                return [
                    Endpoint(record.target, record.port, hostname, hostname)
                    for record in in_order(offered, self._below)
                ]
        return [Endpoint(hostname, DEFAULT_PORT, hostname, hostname)]  # Steps 3.5, 6

    async def _delegated(self, hostname: str, now_ms: int) -> str | None:
        hostname = hostname.lower()
        known = self._delegations.get(hostname)
        if known is None or now_ms >= known.expires_ts:
            known = await self._flights.run(hostname, lambda: self._fetch(hostname, now_ms))
        return known.server_name

    async def _fetch(self, hostname: str, now_ms: int) -> _Delegation:
        before = self._delegations.pop(hostname, None)
        try:
            answer = await self._http.request(
                "GET",
                f"https://{hostname}{_WELL_KNOWN}",
                redirects=_WELL_KNOWN_REDIRECTS,
                max_bytes=_WELL_KNOWN_MAX_BYTES,
            )
            found = _Delegation(_delegated_name(answer), now_ms + lifetime_ms(answer.headers, now_ms=now_ms))
        except (Unreachable, ValueError):
            failures = before.failures if before else 0
            # The exponent is bounded before the power is taken.
            pause_ms = min(_FIRST_PAUSE_MS << min(failures, 10), _LONGEST_PAUSE_MS)
            found = _Delegation(None, now_ms + pause_ms, failures + 1)
        self._delegations[hostname] = found
        while len(self._delegations) > _MAX_CACHED:
            self._delegations.popitem(last=False)
        return found


def in_order(records: Sequence[SrvRecord], below: Callable[[int], int]) -> list[SrvRecord]:
    """RFC 2782: the lowest priority first; among equals each is next with a probability by its weight."""
    ordered: list[SrvRecord] = []
    # Those without weight stand first, so that they have a small chance beside those with one.
    waiting = sorted(records, key=lambda record: (record.priority, record.weight))
    while waiting:
        equals = [record for record in waiting if record.priority == waiting[0].priority]
        drawn = below(sum(record.weight for record in equals) + 1)
        for record in equals:
            drawn -= record.weight
            if drawn <= 0:
                break
        waiting.remove(record)
        ordered.append(record)
    return ordered


def lifetime_ms(headers: Mapping[str, str], *, now_ms: int) -> int:
    """How long a response is fresh (RFC 9111, section 4.2), 24 hours if it does not say, never above 48."""
    directives: dict[str, str] = {}
    for directive in headers.get("cache-control", "").lower().split(","):
        name, _, argument = directive.partition("=")
        directives.setdefault(name.strip(), argument.strip(' \t"'))
    if "no-store" in directives or "no-cache" in directives:
        return 0
    if directives.get("max-age", "").isdecimal():
        age = headers.get("age", "")
        fresh_ms = (int(directives["max-age"][:10]) - int(age[:10] if age.isdecimal() else 0)) * 1000
    elif "expires" in headers:
        sent_ms = _http_date_ms(headers.get("date", ""))
        expires_ms = _http_date_ms(headers["expires"])
        # "A cache recipient MUST interpret invalid date formats, especially the value "0", as … already expired".
        fresh_ms = 0 if expires_ms is None else expires_ms - (now_ms if sent_ms is None else sent_ms)
    else:
        return _DEFAULT_LIFETIME_MS
    return max(0, min(fresh_ms, _LONGEST_LIFETIME_MS))


def _http_date_ms(value: str) -> int | None:
    try:
        return int(parsedate_to_datetime(value).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def _literal_endpoint(server_name: str, named: HostAndPort) -> Sequence[Endpoint]:
    """The host itself, at the port given; the ``Host`` header is the name as it was written."""
    return [Endpoint(named.host, named.port or DEFAULT_PORT, server_name, named.host)]


def _delegated_name(answer: Answer) -> str:
    """The server name in a .well-known file. Raises ``ValueError`` if it is not valid."""
    if answer.status != 200:
        raise ValueError("there is no such file")
    content = answer.json()
    if not isinstance(content, dict) or not isinstance(content.get("m.server"), str):
        raise ValueError("it names no server")
    server_name: str = content["m.server"]
    split_server_name(server_name)
    return server_name
