"""Peers compare the tree heads that a third has signed for them: who shows each another history is found out."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text
from structlog.testing import capture_logs

from identity_server.identity.replication import store
from identity_server.identity.replication.exchange import pull
from identity_server.identity.replication.page import read_head
from tests.identity.replication.mesh import Mesh, open_mesh

PREFIX = "/_matrix/identity/io.identity_server/replication"
A, B, LIAR = "a.test", "b.test", "liar.test"


@pytest.fixture
def engine() -> str:
    return "sqlite"


@pytest.fixture
async def three(new_database_url: Callable[[], Awaitable[str]], tmp_path: Path) -> AsyncIterator[Mesh]:
    async with open_mesh([A, B, LIAR], new_database_url, tmp_path) as mesh:
        await mesh.befriend()
        yield mesh


async def take(mesh: Mesh, one: str, other: str) -> None:
    """Let ``one`` pull what ``other`` states."""
    server = mesh[one]
    async with server.database.reading() as session:
        peer = await store.find_peer(session, other)
    assert peer is not None
    await pull(peer, server.state["peers"]._client, server.state["peers"])


async def hear(mesh: Mesh, one: str, other: str) -> None:
    """Let ``one`` ask ``other`` which heads it holds."""
    server = mesh[one]
    async with server.database.reading() as session:
        peer = await store.find_peer(session, other)
    assert peer is not None
    await server.state["exchange"]._comparison.hear(peer)


async def alarm(mesh: Mesh, one: str, about: str) -> str | None:
    async with mesh[one].database.reading() as session:
        peer = await store.find_peer(session, about)
    assert peer is not None
    assert peer.paused == (peer.alarm is not None)
    return peer.alarm


async def rewrite(mesh: Mesh) -> None:
    """The liar's log says something else from now on, about the first address."""
    async with mesh[LIAR].database.transaction() as session:
        await session.execute(text("UPDATE association_log SET user_id = '@mallory:hs.test' WHERE position = 1"))


async def test_two_that_were_shown_different_histories_of_one_length_find_it_out(three: Mesh) -> None:
    before = REGISTRY.get_sample_value("identity_server_peer_alarms_total", {"peer": LIAR}) or 0
    await three[LIAR].bound()
    await take(three, A, LIAR)
    await rewrite(three)
    await take(three, B, LIAR)
    with capture_logs() as logged:
        await hear(three, A, B)
    assert "another history" in (await alarm(three, A, LIAR) or "")
    assert [(line["peer"], line["log_level"]) for line in logged if line["event"] == "peer contradicts itself"] == [
        (LIAR, "error")
    ]
    assert REGISTRY.get_sample_value("identity_server_peer_alarms_total", {"peer": LIAR}) == before + 1
    # It is nobody else's fault.
    assert await alarm(three, A, B) is None


@pytest.mark.parametrize(("early", "late"), [(A, B), (B, A)])
async def test_a_history_that_is_no_longer_the_beginning_of_what_others_were_shown_is_found_out(
    three: Mesh, early: str, late: str
) -> None:
    await three[LIAR].bound()
    await take(three, early, LIAR)
    await rewrite(three)
    for number in range(4):
        await three[LIAR].bound(address=f"{number}@example.org", client_secret=f"secret{number}")
    await take(three, late, LIAR)
    await hear(three, A, B)
    assert "another history" in (await alarm(three, A, LIAR) or "")


async def test_who_is_merely_ahead_or_behind_is_not_accused(three: Mesh) -> None:
    for number in range(5):
        await three[LIAR].bound(address=f"{number}@example.org", client_secret=f"secret{number}")
        await take(three, A if number % 2 else B, LIAR)
        await hear(three, A, B)
        await hear(three, B, A)
    assert await alarm(three, A, LIAR) is None
    assert await alarm(three, B, LIAR) is None


async def test_nobody_is_accused_by_what_somebody_on_the_way_says(three: Mesh) -> None:
    await three[LIAR].bound()
    await take(three, A, LIAR)
    for number in range(4):
        await three[LIAR].bound(address=f"{number}@example.org", client_secret=f"secret{number}")
    await take(three, B, LIAR)
    client = three[A].state["peers"]._client
    honest = client.consistency

    async def forged(*arguments: Any) -> Any:
        proof = await honest(*arguments)
        return proof._replace(path=[b"\0" * 32], signed={**proof.signed, "path": ["A" * 43]})

    async def of_another_question(peer: Any, first: int, second: int) -> Any:
        return await honest(peer, first, second - 1)

    async def refused(peer: Any, *_: Any) -> Any:
        return await honest(peer, 1, 1000)

    for answer in (forged, of_another_question, refused):
        client.consistency = answer
        await hear(three, A, B)
        assert await alarm(three, A, LIAR) is None
    # A head that the accused has not signed.
    comparison = three[A].state["exchange"]._comparison
    async with three[B].database.reading() as session:
        liar = await store.find_peer(session, LIAR)
    assert liar is not None
    assert liar.head is not None
    head = orjson.loads(liar.head)
    await comparison.consider(read_head({**head, "root_hash": "A" * 43}))
    assert await alarm(three, A, LIAR) is None


async def test_only_peers_are_told_which_heads_are_held(three: Mesh) -> None:
    answer = await three[A].client.get(f"{PREFIX}/heads")
    assert (answer.status_code, answer.json()["errcode"]) == (401, "M_UNAUTHORIZED")


async def test_a_log_that_was_set_back_is_reported(three: Mesh) -> None:
    await three[LIAR].bound()
    await take(three, A, LIAR)
    async with three[LIAR].database.transaction() as session:
        await session.execute(text("DELETE FROM association_log"))
        await session.execute(text("UPDATE log_heads SET position = 0, peaks = x''"))
    await three.at_rest()
    async with three[A].database.reading() as session:
        peer = await store.find_peer(session, LIAR)
    assert peer is not None
    assert "ends before 1" in (peer.last_error or "")


async def test_a_history_that_was_rewritten_without_growing_is_noticed_by_the_next_pull(three: Mesh) -> None:
    await three[LIAR].bound()
    await take(three, A, LIAR)
    await rewrite(three)
    await three.at_rest()
    assert "rewritten" in (await alarm(three, A, LIAR) or "")
