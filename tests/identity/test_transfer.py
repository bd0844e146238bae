import json

import pytest

from identity_server.identity.associations import store
from identity_server.identity.associations.merkle import Peaks
from identity_server.identity.associations.statement import entry_nonce, log_entry
from identity_server.identity.transfer.bulk import import_bindings
from identity_server.identity.transfer.export import export_bindings
from identity_server.identity.transfer.lines import BadLine, read_lines, write_line
from tests.world import IdentityServer

LINES = [
    {"medium": "email", "address": f"Straße{number}@example.org", "mxid": f"@user{number}:hs.test"}
    for number in range(600)
] + [{"medium": "msisdn", "address": "447700900001", "mxid": "@phone:hs.test"}]


async def imported(server: IdentityServer, lines: list[dict[str, str]]) -> tuple[int, int]:
    return await import_bindings(
        server.database,
        (json.dumps(line).encode() for line in lines),
        server_name="is.test",
        clock=server.clock,
        entropy=server.entropy,
    )


async def test_what_is_imported_is_found_and_what_is_known_is_left_alone(server: IdentityServer) -> None:
    headers = await server.bound("@alice:hs.test", "strasse7@example.org")
    assert await imported(server, LINES) == (600, 1)
    assert await imported(server, LINES) == (0, 601)
    assert await server.found(headers, "strasse1@example.org", "straße1@example.org", "strasse7@example.org") == {
        "strasse1@example.org": "@user1:hs.test",
        "straße1@example.org": "@user1:hs.test",
        "strasse7@example.org": "@alice:hs.test",
    }
    assert await server.found(headers, "447700900001", medium="msisdn") == {"447700900001": "@phone:hs.test"}


async def test_an_export_can_be_imported_again_without_a_difference(server: IdentityServer) -> None:
    await imported(server, LINES)
    lines = [write_line(bound) async for page in export_bindings(server.database) for bound in page]
    assert sorted(read_lines(lines)) == sorted(read_lines(json.dumps(line).encode() for line in LINES))


async def test_the_log_s_tree_commits_to_every_entry(server: IdentityServer) -> None:
    await imported(server, LINES)
    await server.bound("@alice:hs.test")
    async with server.database.reading() as session:
        head = await store.head(session)
        entries = await store.log_page(session, after=0, limit=1000)
    assert head.position == len(entries) == 602
    leaves = (
        log_entry("is.test", entry.position, entry.statement, entry_nonce(head.secret, entry.position))
        for entry in entries
    )
    assert Peaks().extended(leaves)[0] == head.peaks
    assert await server.database.fast.value("SELECT count(*) FROM log_nodes") == 2


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b"nonsense",
        b'{"medium":"email","address":"nobody","mxid":"@a:b.c"}',
        b'{"medium":"email","address":"a@b.c","mxid":"a"}',
    ],
)
def test_a_line_that_is_no_binding_is_named_by_its_number(line: bytes) -> None:
    good = json.dumps(LINES[0]).encode()
    with pytest.raises(BadLine, match="line 2"):
        list(read_lines([good, line]))
