"""Server-Server API, "Resolving server names", step by step."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity_server.matrix.discovery import Discovery, SrvRecord, in_order, lifetime_ms
from identity_server.matrix.http import Answer, Endpoint, Unreachable

NOW = 1_700_000_000_000  # Tue, 14 Nov 2023 22:13:20 GMT
SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000


@dataclass
class Internet:
    """Answers for .well-known files by host, and SRV records by name; counts what was asked."""

    files: dict[str, Answer] = field(default_factory=dict)
    records: dict[str, list[SrvRecord]] = field(default_factory=dict)
    fetched: list[str] = field(default_factory=list)
    looked_up: list[str] = field(default_factory=list)

    def delegate(self, host: str, to: Any, status: int = 200, **headers: str) -> None:
        body = to if isinstance(to, bytes) else orjson.dumps({"m.server": to})
        self.files[host] = Answer(status, {name.replace("_", "-"): v for name, v in headers.items()}, body)

    async def request(self, method: str, target: Endpoint | str, path: str = "", **options: Any) -> Answer:
        assert (method, options["redirects"] > 0, options["max_bytes"] <= 1024 * 1024) == ("GET", True, True)
        assert isinstance(target, str)
        self.fetched.append(target)
        await asyncio.sleep(0)
        try:
            return self.files[target.removeprefix("https://").removesuffix("/.well-known/matrix/server")]
        except KeyError:
            raise Unreachable("no such host") from None

    async def srv(self, name: str) -> Sequence[SrvRecord]:
        self.looked_up.append(name)
        return self.records.get(name, [])


@pytest.fixture
def internet() -> Internet:
    return Internet()


@pytest.fixture
def discovery(internet: Internet) -> Discovery:
    return Discovery(internet, internet, below=random.Random(1).randrange)


@pytest.mark.parametrize(
    ("server_name", "endpoint"),
    [
        ("192.0.2.1", Endpoint("192.0.2.1", 8448, "192.0.2.1", "192.0.2.1")),
        ("192.0.2.1:80", Endpoint("192.0.2.1", 80, "192.0.2.1:80", "192.0.2.1")),
        ("[2001:DB8::1]", Endpoint("2001:db8::1", 8448, "[2001:DB8::1]", "2001:db8::1")),
        ("[2001:db8::1]:80", Endpoint("2001:db8::1", 80, "[2001:db8::1]:80", "2001:db8::1")),
        ("hs.test:80", Endpoint("hs.test", 80, "hs.test:80", "hs.test")),
    ],
)
async def test_steps_1_and_2_an_ip_literal_or_a_port_needs_no_lookup(
    internet: Internet, discovery: Discovery, server_name: str, endpoint: Endpoint
) -> None:
    assert await discovery.endpoints(server_name, now_ms=NOW) == [endpoint]
    assert internet.fetched == internet.looked_up == []


@pytest.mark.parametrize(
    ("delegated", "endpoint"),
    [
        ("192.0.2.1", Endpoint("192.0.2.1", 8448, "192.0.2.1", "192.0.2.1")),
        ("192.0.2.1:80", Endpoint("192.0.2.1", 80, "192.0.2.1:80", "192.0.2.1")),
        ("[2001:db8::1]", Endpoint("2001:db8::1", 8448, "[2001:db8::1]", "2001:db8::1")),
        ("other.test:80", Endpoint("other.test", 80, "other.test:80", "other.test")),
    ],
)
async def test_steps_3_1_and_3_2_a_file_delegates_to_an_ip_literal_or_a_port(
    internet: Internet, discovery: Discovery, delegated: str, endpoint: Endpoint
) -> None:
    internet.delegate("hs.test", delegated)
    assert await discovery.endpoints("hs.test", now_ms=NOW) == [endpoint]
    assert (internet.fetched, internet.looked_up) == (["https://hs.test/.well-known/matrix/server"], [])


async def test_step_3_3_a_delegated_name_has_srv_records_and_proves_itself_by_the_delegated_name(
    internet: Internet, discovery: Discovery
) -> None:
    internet.delegate("hs.test", "other.test")
    internet.records["_matrix-fed._tcp.other.test"] = [SrvRecord(10, 0, 443, "target.test")]
    internet.records["_matrix._tcp.other.test"] = [SrvRecord(10, 0, 444, "old.test")]
    assert await discovery.endpoints("hs.test", now_ms=NOW) == [
        Endpoint("target.test", 443, "other.test", "other.test")
    ]
    assert internet.looked_up == ["_matrix-fed._tcp.other.test"]


async def test_step_3_4_the_deprecated_records_of_a_delegated_name_come_second(
    internet: Internet, discovery: Discovery
) -> None:
    internet.delegate("hs.test", "other.test")
    internet.records["_matrix._tcp.other.test"] = [SrvRecord(10, 0, 444, "old.test")]
    assert await discovery.endpoints("hs.test", now_ms=NOW) == [Endpoint("old.test", 444, "other.test", "other.test")]


async def test_step_3_5_a_delegated_name_without_records_is_asked_at_port_8448(
    internet: Internet, discovery: Discovery
) -> None:
    internet.delegate("hs.test", "other.test")
    assert await discovery.endpoints("hs.test", now_ms=NOW) == [
        Endpoint("other.test", 8448, "other.test", "other.test")
    ]
    assert internet.looked_up == ["_matrix-fed._tcp.other.test", "_matrix._tcp.other.test"]


async def test_steps_4_and_5_without_a_file_the_name_itself_has_srv_records(
    internet: Internet, discovery: Discovery
) -> None:
    internet.records["_matrix._tcp.hs.test"] = [SrvRecord(10, 0, 444, "old.test")]
    assert await discovery.endpoints("hs.test", now_ms=NOW) == [Endpoint("old.test", 444, "hs.test", "hs.test")]
    internet.records["_matrix-fed._tcp.hs.test"] = [
        SrvRecord(20, 0, 444, "second.test"),
        SrvRecord(10, 0, 443, "first.test"),
    ]
    assert await discovery.endpoints("hs.test", now_ms=NOW) == [
        Endpoint("first.test", 443, "hs.test", "hs.test"),
        Endpoint("second.test", 444, "hs.test", "hs.test"),
    ]


async def test_step_6_without_file_and_records_it_is_port_8448(discovery: Discovery) -> None:
    assert await discovery.endpoints("hs.test", now_ms=NOW) == [Endpoint("hs.test", 8448, "hs.test", "hs.test")]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 200),
        (b"{", 200),
        (b"[]", 200),
        (b"{}", 200),
        (b'{"m.server":null}', 200),
        (b'{"m.server":""}', 200),
        (b'{"m.server":"other.test:99999"}', 200),
        (b'{"m.server":"https://other.test"}', 200),
        (b'{"m.server":"other.test:80"}', 404),
        (b'{"m.server":"other.test:80"}', 302),
    ],
)
async def test_an_invalid_file_is_as_none(internet: Internet, discovery: Discovery, body: bytes, status: int) -> None:
    internet.delegate("hs.test", body, status)
    assert await discovery.endpoints("hs.test", now_ms=NOW) == [Endpoint("hs.test", 8448, "hs.test", "hs.test")]


async def test_a_delegated_server_is_not_asked_to_delegate_further(internet: Internet, discovery: Discovery) -> None:
    internet.delegate("hs.test", "other.test")
    internet.delegate("other.test", "third.test")
    (endpoint,) = await discovery.endpoints("hs.test", now_ms=NOW)
    assert (endpoint.host, len(internet.fetched)) == ("other.test", 1)


async def test_a_service_that_the_dns_says_is_not_offered_is_not_sought_elsewhere(
    internet: Internet, discovery: Discovery
) -> None:
    internet.records["_matrix-fed._tcp.hs.test"] = [SrvRecord(0, 0, 0, ".")]
    with pytest.raises(Unreachable):
        await discovery.endpoints("hs.test", now_ms=NOW)


@pytest.mark.parametrize("name", ["", "a b", "hs.test:0", "hs.test/path", "[::1", "user@hs.test", "::1"])
async def test_what_is_no_server_name_is_not_looked_for(internet: Internet, discovery: Discovery, name: str) -> None:
    with pytest.raises(ValueError):
        await discovery.endpoints(name, now_ms=NOW)
    assert internet.fetched == []


@pytest.mark.parametrize(
    ("headers", "kept_ms"),
    [
        ({}, 24 * HOUR),
        ({"cache-control": "max-age=60"}, MINUTE),
        ({"cache-control": 'public , Max-Age="60"'}, MINUTE),
        ({"cache-control": "max-age=60", "age": "20"}, 40 * SECOND),
        ({"cache-control": "max-age=60", "age": "100"}, 0),
        ({"cache-control": "max-age=99999999999999999999999"}, 48 * HOUR),
        ({"cache-control": "no-store"}, 0),
        ({"cache-control": "no-cache, max-age=60"}, 0),
        ({"cache-control": "max-age=x"}, 24 * HOUR),
        ({"expires": "Tue, 14 Nov 2023 22:14:20 GMT"}, MINUTE),
        ({"expires": "Tue, 14 Nov 2023 22:14:20 GMT", "date": "Tue, 14 Nov 2023 22:14:10 GMT"}, 10 * SECOND),
        ({"expires": "Tue, 14 Nov 2023 22:14:20 GMT", "cache-control": "max-age=7"}, 7 * SECOND),
        ({"expires": "Tue, 14 Nov 2000 22:14:20 GMT"}, 0),
        ({"expires": "Tue, 14 Nov 2030 22:14:20 GMT"}, 48 * HOUR),
        ({"expires": "0"}, 0),
    ],
)
def test_a_file_is_kept_as_long_as_its_headers_say_and_48_hours_at_most(headers: dict[str, str], kept_ms: int) -> None:
    assert lifetime_ms(headers, now_ms=NOW) == kept_ms


@given(st.dictionaries(st.sampled_from(["cache-control", "expires", "date", "age"]), st.text()))
def test_no_header_is_too_strange(headers: dict[str, str]) -> None:
    assert 0 <= lifetime_ms(headers, now_ms=NOW) <= 48 * HOUR


async def test_a_file_is_fetched_again_when_it_is_stale(internet: Internet, discovery: Discovery) -> None:
    internet.delegate("hs.test", "192.0.2.1", cache_control="max-age=60")
    for asked_ms in (NOW, NOW + MINUTE - 1):
        await discovery.endpoints("hs.test", now_ms=asked_ms)
    await discovery.endpoints("HS.TEST", now_ms=NOW + 1)
    assert len(internet.fetched) == 1
    internet.delegate("hs.test", "192.0.2.2")
    (endpoint,) = await discovery.endpoints("hs.test", now_ms=NOW + MINUTE)
    assert (endpoint.host, len(internet.fetched)) == ("192.0.2.2", 2)


async def test_failures_are_remembered_ever_longer_up_to_an_hour(internet: Internet, discovery: Discovery) -> None:
    now_ms, pauses = NOW, []
    for _ in range(20):
        await discovery.endpoints("hs.test", now_ms=now_ms)
        begun_ms, fetched = now_ms, len(internet.fetched)
        while len(internet.fetched) == fetched:
            now_ms += MINUTE
            await discovery.endpoints("hs.test", now_ms=now_ms)
        pauses.append((now_ms - begun_ms) // MINUTE)
    assert pauses[:7] == [1, 2, 4, 8, 16, 32, 60]
    assert set(pauses[7:]) == {60}
    internet.delegate("hs.test", "192.0.2.1", cache_control="max-age=0")
    now_ms += HOUR
    (endpoint,) = await discovery.endpoints("hs.test", now_ms=now_ms)
    assert endpoint.host == "192.0.2.1"


async def test_those_who_ask_together_fetch_once(internet: Internet, discovery: Discovery) -> None:
    internet.delegate("hs.test", "192.0.2.1", cache_control="no-store")
    found = await asyncio.gather(*(discovery.endpoints("hs.test", now_ms=NOW) for _ in range(10)))
    assert ([endpoints[0].host for endpoints in found], len(internet.fetched)) == (["192.0.2.1"] * 10, 1)


async def test_one_who_is_cancelled_takes_nobody_along(internet: Internet, discovery: Discovery) -> None:
    internet.delegate("hs.test", "192.0.2.1")
    first = asyncio.create_task(discovery.endpoints("hs.test", now_ms=NOW))
    second = asyncio.create_task(discovery.endpoints("hs.test", now_ms=NOW))
    await asyncio.sleep(0)
    first.cancel()
    assert [endpoint.host for endpoint in await second] == ["192.0.2.1"]
    assert len(internet.fetched) == 1


def test_records_of_one_priority_are_spread_by_weight() -> None:
    records = [SrvRecord(1, 0, 1, "none"), SrvRecord(1, 30, 1, "some"), SrvRecord(1, 70, 1, "most")]
    draw = random.Random(1).randrange
    first = Counter(in_order(records, draw)[0].target for _ in range(10_000))
    assert 0 < first["none"] < 300
    assert 2700 < first["some"] < 3300
    assert 6700 < first["most"] < 7300


@given(st.lists(st.builds(SrvRecord, st.integers(0, 3), st.integers(0, 65535), st.integers(1, 9), st.just("x"))))
def test_every_record_is_tried_once_and_none_before_a_lower_priority(records: list[SrvRecord]) -> None:
    ordered = in_order(records, random.Random(1).randrange)
    assert Counter(ordered) == Counter(records)
    assert [record.priority for record in ordered] == sorted(record.priority for record in records)
