"""Against a real name server on loopback."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from identity_server.matrix.discovery import SrvRecord
from identity_server.runtime.dns import Dns

ZONE = {
    "_matrix-fed._tcp.hs.test.": ["10 5 443 one.test.", "20 0 8448 two.test."],
    "_matrix-fed._tcp.silent.test.": ["0 0 0 ."],
}


class NameServer(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.asked: list[str] = []

    def connection_made(self, transport: Any) -> None:
        self.transport: asyncio.DatagramTransport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        name = query.question[0].name.to_text()
        self.asked.append(name)
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        if name in ZONE:
            answer.answer.append(dns.rrset.from_text_list(name, 300, "IN", "SRV", ZONE[name]))
        else:
            answer.set_rcode(dns.rcode.SERVFAIL if name.endswith("broken.test.") else dns.rcode.NXDOMAIN)
        self.transport.sendto(answer.to_wire(), addr)


@pytest.fixture
async def name_server() -> AsyncIterator[NameServer]:
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(NameServer, local_addr=("127.0.0.1", 0))
    yield server
    transport.close()


@pytest.fixture
def resolver(name_server: NameServer) -> Dns:
    return Dns(name_server.transport.get_extra_info("sockname"))


async def test_records_are_found_and_kept(name_server: NameServer, resolver: Dns) -> None:
    for _ in range(2):
        assert sorted(await resolver.srv("_matrix-fed._tcp.hs.test")) == [
            SrvRecord(10, 5, 443, "one.test"),
            SrvRecord(20, 0, 8448, "two.test"),
        ]
    assert name_server.asked == ["_matrix-fed._tcp.hs.test."]


async def test_a_service_that_is_not_offered_has_a_dot_for_its_target(resolver: Dns) -> None:
    assert list(await resolver.srv("_matrix-fed._tcp.silent.test")) == [SrvRecord(0, 0, 0, ".")]


@pytest.mark.parametrize("host", ["nowhere.test", "broken.test", "a..b", "a" * 64 + ".test", "ä" * 300])
async def test_a_name_without_records_has_none(resolver: Dns, host: str) -> None:
    assert list(await resolver.srv(f"_matrix-fed._tcp.{host}")) == []
