import asyncio

import pytest

from identity_server.identity.lookup.fill import build
from identity_server.identity.lookup.rotate import InGrace, begin, rotate, switch
from identity_server.identity.lookup.store import add_hashes
from tests.world import IdentityServer, hashed

V2 = "/_matrix/identity/v2"
ALICE, BOB = "@alice:hs.test", "@bob:hs.test"


async def rotated(server: IdentityServer, *, force: bool = False) -> str:
    return await rotate(
        server.database, server.settings.lookup, clock=server.clock, entropy=server.entropy, force=force
    )


async def pepper_of(server: IdentityServer, headers: dict[str, str]) -> str:
    return str((await server.client.get(f"{V2}/hash_details", headers=headers)).json()["lookup_pepper"])


async def look_up(server: IdentityServer, headers: dict[str, str], pepper: str, address: str) -> tuple[int, list[str]]:
    body = {"algorithm": "sha256", "pepper": pepper, "addresses": [hashed(address, "email", pepper)]}
    answer = await server.client.post(f"{V2}/lookup", json=body, headers=headers)
    return answer.status_code, list(answer.json().get("mappings", {}).values())


async def test_after_a_rotation_both_peppers_answer_until_the_grace_is_over(server: IdentityServer) -> None:
    headers = await server.bound(ALICE)
    old = await pepper_of(server, headers)
    new = await rotated(server)
    server.clock.advance(seconds=2)
    assert await pepper_of(server, headers) == new != old
    assert await look_up(server, headers, new, "alice@example.org") == (200, [ALICE])
    assert await look_up(server, headers, old, "alice@example.org") == (200, [ALICE])
    server.clock.advance(hours=24)
    assert (await look_up(server, headers, old, "alice@example.org"))[0] == 400
    assert await look_up(server, headers, new, "alice@example.org") == (200, [ALICE])


async def test_what_is_stated_while_the_index_is_built_wins_over_what_the_builder_read(server: IdentityServer) -> None:
    headers = await server.bound(ALICE, "stays@example.org", "1")
    await server.bound(ALICE, "goes@example.org", "2")
    await server.bound(ALICE, "moves@example.org", "3")
    building = await begin(server.database, clock=server.clock, entropy=server.entropy)
    await build(server.database, building)
    goes = {"mxid": ALICE, "threepid": {"medium": "email", "address": "goes@example.org"}}
    await server.client.post(f"{V2}/3pid/unbind", json=goes, headers=headers)
    await server.bound(BOB, "moves@example.org", "4")
    await server.bound(BOB, "comes@example.org", "5")
    await build(server.database, building)  # what an interrupted builder does: all over again
    await switch(server.database, building, grace_ms=1000, clock=server.clock)
    server.clock.advance(seconds=2)
    addresses = [f"{name}@example.org" for name in ("stays", "goes", "moves", "comes")]
    assert await server.found(headers, *addresses) == {
        "stays@example.org": ALICE,
        "moves@example.org": BOB,
        "comes@example.org": BOB,
    }


async def test_an_unbinding_that_the_builder_had_not_seen_is_not_undone_by_it(server: IdentityServer) -> None:
    headers = await server.bound(ALICE)
    building = await begin(server.database, clock=server.clock, entropy=server.entropy)
    stale = [(hashed("alice@example.org", "email", building.pepper), ALICE)]
    body = {"mxid": ALICE, "threepid": {"medium": "email", "address": "alice@example.org"}}
    await server.client.post(f"{V2}/3pid/unbind", json=body, headers=headers)
    async with server.database.transaction() as session:
        await add_hashes(session, building.slot, stale)
    await switch(server.database, building, grace_ms=0, clock=server.clock)
    server.clock.advance(seconds=2)
    assert await server.found(headers, "alice@example.org") == {}


async def test_a_second_rotation_waits_for_the_grace_of_the_first_unless_forced(server: IdentityServer) -> None:
    await server.bound(ALICE)
    await rotated(server)
    with pytest.raises(InGrace):
        await rotated(server)
    headers = await server.account()
    new = await rotated(server, force=True)
    server.clock.advance(seconds=2)
    assert await look_up(server, headers, new, "alice@example.org") == (200, [ALICE])


async def test_an_interrupted_rotation_is_continued_with_the_same_pepper(server: IdentityServer) -> None:
    building = await begin(server.database, clock=server.clock, entropy=server.entropy)
    assert await rotated(server) == building.pepper


async def test_binds_and_lookups_go_on_during_a_rotation(server: IdentityServer) -> None:
    headers = await server.account(ALICE)

    async def bind_some() -> None:
        for number in range(10):
            await server.bound(ALICE, f"{number}@example.org", str(number))

    await asyncio.gather(bind_some(), rotated(server))
    server.clock.advance(seconds=2)
    addresses = [f"{number}@example.org" for number in range(10)]
    assert await server.found(headers, *addresses) == dict.fromkeys(addresses, ALICE)
