import asyncio
from typing import Any

import pytest
from sqlalchemy import text

from identity_server.identity.associations.state import state_bindings
from identity_server.identity.associations.statement import Statement
from identity_server.identity.associations.store import Bound
from identity_server.identity.replication import store
from identity_server.identity.replication.client import PeerRefused
from identity_server.identity.replication.exchange import pull
from identity_server.identity.replication.page import read_page
from identity_server.identity.replication.retire import retire, retire_ended
from identity_server.identity.replication.rules import Rules
from identity_server.identity.replication.take import Standing, UnknownPeer, check, merge, take_page
from identity_server.identity.signing.keyring import Keyring
from identity_server.matrix.threepid import Threepid
from identity_server.runtime.key_files import generate_key, read_keys
from tests.identity.replication.mesh import Mesh
from tests.world import IdentityServer

V2 = "/_matrix/identity/v2"
ALICE, BOB = "@alice:hs.test", "@bob:hs.test"


async def found(server: IdentityServer, *addresses: str) -> dict[str, str]:
    return await server.found(await server.account("@reader:hs.test"), *addresses)


async def unbind(server: IdentityServer, headers: dict[str, str], user_id: str, address: str) -> None:
    body = {"mxid": user_id, "threepid": {"medium": "email", "address": address}}
    answer = await server.client.post(f"{V2}/3pid/unbind", json=body, headers=headers)
    assert answer.status_code == 200


async def peer(server: IdentityServer, name: str) -> Any:
    async with server.database.reading() as session:
        return await store.find_peer(session, name)


async def test_what_is_bound_at_one_is_found_at_the_other_and_so_is_its_end(pair: Mesh) -> None:
    headers = await pair["a.test"].bound(ALICE)
    await pair.at_rest()
    assert await found(pair["b.test"], "alice@example.org") == {"alice@example.org": ALICE}
    await unbind(pair["a.test"], headers, ALICE, "alice@example.org")
    await pair.at_rest()
    assert await found(pair["b.test"], "alice@example.org") == {}


async def test_the_newest_statement_wins_wherever_it_was_made(pair: Mesh) -> None:
    await pair["a.test"].bound(ALICE)
    pair["b.test"].clock.advance(seconds=1)
    await pair["b.test"].bound(BOB)
    await pair.at_rest()
    for server in pair.servers.values():
        assert await found(server, "alice@example.org") == {"alice@example.org": BOB}


async def test_a_tombstone_beats_only_what_it_is_newer_than(pair: Mesh) -> None:
    headers = await pair["a.test"].bound(ALICE)
    await unbind(pair["a.test"], headers, ALICE, "alice@example.org")
    pair["b.test"].clock.advance(seconds=10)
    await pair["b.test"].bound(BOB)
    await pair.at_rest()
    for server in pair.servers.values():
        assert await found(server, "alice@example.org") == {"alice@example.org": BOB}


async def test_a_peer_that_was_away_is_sent_what_it_missed(pair: Mesh) -> None:
    pair.network.cut.add("b.test")
    addresses = [f"{number}@example.org" for number in range(5)]
    for number, address in enumerate(addresses):
        await pair["a.test"].bound(ALICE, address, str(number))
    await pair.at_rest()
    assert (await peer(pair["a.test"], "b.test")).failures > 0
    pair.network.cut.clear()
    await pair.at_rest()
    assert await found(pair["b.test"], *addresses) == dict.fromkeys(addresses, ALICE)
    assert (await peer(pair["a.test"], "b.test")).failures == 0


async def test_a_new_peer_pulls_what_was_stated_before_it_came(pair: Mesh) -> None:
    await pair["a.test"].bound(ALICE)
    await pair.at_rest()
    # The cursor of a server that lost its peer's statements, say: it asks for them itself.
    async with pair["b.test"].database.transaction() as session:
        await store.drop_statements(session, "a.test")
        await store.change_peer(session, "a.test", taken_position=0, taken_peaks=b"")
    await pair.at_rest()
    assert (await peer(pair["b.test"], "a.test")).taken_position == 1


async def test_a_page_that_is_sent_twice_or_late_changes_nothing(pair: Mesh) -> None:
    headers = await pair["a.test"].bound(ALICE)
    await pair.at_rest()
    [page] = [json for method, target, json in pair.network.log if method == "POST" and "b.test" in target]
    await unbind(pair["a.test"], headers, ALICE, "alice@example.org")
    await pair.at_rest()
    read, peers = read_page(page, "a.test"), pair["b.test"].state["peers"]
    taken = await peers.take(read, await peers.check(read))
    assert taken.position == 2
    assert await found(pair["b.test"], "alice@example.org") == {}


async def test_only_a_peer_may_push_and_only_in_its_own_name(pair: Mesh) -> None:
    push = "/_matrix/identity/io.identity_server/replication/push"
    answer = await pair["a.test"].client.post(push, json={})
    assert (answer.status_code, answer.json()["errcode"]) == (401, "M_UNAUTHORIZED")
    client = pair["b.test"].state["peers"]._client
    await pair["b.test"].bound(BOB)
    page = await client.log(await peer(pair["b.test"], "a.test"), 0, 10)
    assert page.origin == "a.test"
    await pair["a.test"].bound(ALICE)
    page = await client.log(await peer(pair["b.test"], "a.test"), 0, 10)
    answer = await client._http.request(
        "POST",
        f"https://a.test{push}",
        json=page.as_json(),
        headers={"authorization": "X-Matrix origin=b.test,key=x,sig=y"},
    )
    assert answer.status == 401


@pytest.mark.parametrize("signatures", [None, 5, "x", [], {"a.test": 5}, {"a.test": []}, {"a.test": {"ed25519:0": 5}}])
async def test_a_page_whose_signatures_are_none_is_malformed(pair: Mesh, signatures: Any) -> None:
    head = {"origin": "a.test", "tree_size": 0, "root_hash": "", "ts": 1, "signatures": signatures}
    page = {"origin": "a.test", "after": 0, "entries": [], "head": head}
    client = pair["a.test"].state["peers"]._client
    with pytest.raises(PeerRefused, match="400 M_BAD_JSON"):
        await client.push(await peer(pair["a.test"], "b.test"), page)


async def test_what_the_rules_do_not_allow_is_set_aside_and_the_rest_goes_on(pair: Mesh) -> None:
    async with pair["b.test"].database.transaction() as session:
        rules = Rules(email_domains=("example.org",)).model_dump_json()
        await store.change_peer(session, "a.test", rules=rules)
    for number, address in enumerate(("one@example.org", "two@elsewhere.org", "three@example.org")):
        await pair["a.test"].bound(ALICE, address, str(number))
    await pair.at_rest()
    addresses = ("one@example.org", "two@elsewhere.org", "three@example.org")
    assert set(await found(pair["b.test"], *addresses)) == {"one@example.org", "three@example.org"}
    for server, name, of_ours in ((pair["a.test"], "b.test", True), (pair["b.test"], "a.test", False)):
        async with server.database.reading() as session:
            [refused] = await store.all_set_aside(session, name)
        assert (refused.position, refused.of_ours) == (2, of_ours)
        assert "domain" in refused.reason


async def test_a_rewritten_history_raises_the_alarm_and_changes_nothing(pair: Mesh) -> None:
    await pair["a.test"].bound(ALICE)
    await pair.at_rest()
    async with pair["a.test"].database.transaction() as session:
        await session.execute(text("UPDATE association_log SET user_id = '@mallory:hs.test'"))
    await pair["a.test"].bound(BOB, "bob@example.org", "other")
    await pair.at_rest()
    told = await peer(pair["b.test"], "a.test")
    assert told.paused
    assert "rewritten" in told.alarm
    assert await found(pair["b.test"], "bob@example.org") == {}


def roll_over(server: IdentityServer) -> str:
    """The ID of the key that it signs with from now on."""
    generate_key(server.settings.signing_key_file, server.entropy)
    keyring = Keyring(server.settings.server.name, read_keys(server.settings.signing_key_file))
    for holder in (server.state["exchange"], server.state["peers"]._client):
        holder._keyring = keyring
    server.state["keyring"] = keyring
    return keyring.current.key_id


async def test_a_new_key_is_followed_because_the_old_one_signs_for_it(pair: Mesh) -> None:
    server = pair["a.test"]
    assert roll_over(server) == "ed25519:1"
    await server.bound(ALICE)
    await pair.at_rest()
    assert await found(pair["b.test"], "alice@example.org") == {"alice@example.org": ALICE}
    async with pair["b.test"].database.reading() as session:
        keys = await store.peer_keys(session, "a.test")
    assert {key.key_id for key in keys} == {"ed25519:0", "ed25519:1"}


async def test_who_invents_keys_of_a_peer_has_it_asked_once_and_a_new_key_is_followed_a_little_later(
    pair: Mesh,
) -> None:
    b, log = pair["b.test"], "/_matrix/identity/io.identity_server/replication/log"

    async def claims(key_id: str) -> int:
        header = f'X-Matrix origin="a.test",destination="b.test",key="{key_id}",sig="{"A" * 86}"'
        return (await b.client.get(log, headers={"Authorization": header})).status_code

    before = len(pair.network.log)
    assert await asyncio.gather(*(claims(f"ed25519:invented{number}") for number in range(5))) == [401] * 5
    assert await claims("ed25519:another") == 401
    assert [target for _, target, _ in pair.network.log[before:]] == [
        "https://a.test/_matrix/identity/io.identity_server/replication/keys"
    ]
    roll_over(pair["a.test"])
    client = pair["a.test"].state["peers"]._client
    with pytest.raises(PeerRefused):
        await client.log(await peer(pair["a.test"], "b.test"), 0, 10)
    b.clock.advance(seconds=10)
    assert (await client.log(await peer(pair["a.test"], "b.test"), 0, 10)).origin == "b.test"


async def test_a_stranger_is_told_of_a_server_that_he_names_whether_it_is_a_peer_and_not_who_the_peers_are(
    pair: Mesh,
) -> None:
    async def answered(origin: str) -> tuple[int, str]:
        header = f'X-Matrix origin="{origin}",destination="b.test",key="ed25519:0",sig="{"A" * 86}"'
        heads = "/_matrix/identity/io.identity_server/replication/heads"
        answer = await pair["b.test"].client.get(heads, headers={"Authorization": header})
        return answer.status_code, answer.json()["errcode"]

    assert await answered("a.test") == (401, "M_UNAUTHORIZED")
    assert await answered("c.test") == (403, "M_UNKNOWN_PEER")


async def test_what_a_retired_peer_stated_gives_way_to_what_others_stated(pair: Mesh) -> None:
    await pair["b.test"].bound(BOB)
    pair["a.test"].clock.advance(seconds=1)
    await pair["a.test"].bound(ALICE)
    await pair["a.test"].bound(ALICE, "only@example.org", "other")
    await pair.at_rest()
    assert set((await found(pair["b.test"], "alice@example.org", "only@example.org")).values()) == {ALICE}
    assert await retire(pair["b.test"].database, "a.test", "b.test") == 2
    assert await found(pair["b.test"], "alice@example.org", "only@example.org") == {"alice@example.org": BOB}


async def test_what_a_peer_stated_is_retired_when_its_time_is_over(pair: Mesh) -> None:
    await pair["a.test"].bound(ALICE)
    await pair.at_rest()
    server = pair["b.test"]
    async with server.database.transaction() as session:
        await store.change_peer(session, "a.test", expires_ts=server.clock.now_ms() + 1000)
    await retire_ended(server.database, "b.test", server.clock.now_ms())
    assert await found(server, "alice@example.org") == {"alice@example.org": ALICE}
    server.clock.advance(seconds=1)
    await retire_ended(server.database, "b.test", server.clock.now_ms())
    assert await found(server, "alice@example.org") == {}
    async with server.database.reading() as session:
        assert await store.count_statements(session, "a.test") == 0


async def test_a_statement_whose_end_has_come_is_answered_no_more_and_still_beats_what_is_older(pair: Mesh) -> None:
    server = pair["b.test"]
    await server.bound(BOB)
    threepid, now_ms = Threepid("email", "alice@example.org"), server.clock.now_ms() + 10
    async with server.database.transaction() as session:
        numbered = [(1, Statement(threepid, ALICE, now_ms, not_before=now_ms, not_after=now_ms + 5_000))]
        await store.add_statements(session, "a.test", numbered)
        await merge(session, "a.test", numbered)
    await retire_ended(server.database, "b.test", now_ms + 4_999)
    assert await found(server, "alice@example.org") == {"alice@example.org": ALICE}
    await retire_ended(server.database, "b.test", now_ms + 5_000)
    assert await found(server, "alice@example.org") == {}


async def test_a_page_that_comes_while_its_peer_is_removed_is_not_taken(pair: Mesh) -> None:
    await pair["a.test"].bound(ALICE)
    client = pair["b.test"].state["peers"]._client
    page = await client.log(await peer(pair["b.test"], "a.test"), 0, 10)
    standing = Standing.of(await peer(pair["b.test"], "a.test"))
    checked = check(page, standing, latest_ts=page.head.ts)
    async with pair["b.test"].database.transaction() as session:
        await store.remove_peer(session, "a.test")
    with pytest.raises(UnknownPeer):
        async with pair["b.test"].database.transaction() as session:
            await take_page(session, page, checked, latest_ts=page.head.ts, now_ms=page.head.ts)


async def test_a_peer_that_has_pulled_more_than_it_is_sent_is_believed(pair: Mesh) -> None:
    a, b = pair["a.test"], pair["b.test"]
    threepids = [Threepid("email", f"{number}@example.org") for number in range(600)]
    async with a.database.transaction() as session:
        for threepid in threepids:
            await state_bindings(
                session, [Bound(threepid, ALICE, None)], keyring=a.state["keyring"], now_ms=a.clock.now_ms()
            )
    await pull(await peer(b, "a.test"), b.state["peers"]._client, b.state["peers"])
    await a.state["exchange"]._push(await peer(a, "b.test"))
    assert (await peer(a, "b.test")).sent_position == len(threepids)


async def test_a_peer_that_is_paused_or_removed_in_the_middle_of_its_turn_is_sent_nothing_more(pair: Mesh) -> None:
    a, b = pair["a.test"], pair["b.test"]
    at_its_turn = await peer(a, "b.test")
    async with a.database.transaction() as session:
        await store.change_peer(session, "b.test", paused=True)
    await a.bound(ALICE)
    await a.state["exchange"]._push(at_its_turn)
    async with a.database.transaction() as session:
        await store.remove_peer(session, "b.test")
    await a.state["exchange"]._push(at_its_turn)
    assert await found(b, "alice@example.org") == {}


async def test_a_peer_that_comes_back_is_sent_to_again_whatever_pause_was_left(pair: Mesh) -> None:
    a, b = pair["a.test"], pair["b.test"]
    async with a.database.transaction() as session:
        await store.change_peer(session, "b.test", next_try_ts=a.clock.now_ms() + 300_000, failures=9)
    await pull(await peer(b, "a.test"), b.state["peers"]._client, b.state["peers"])
    assert (await peer(a, "b.test")).next_try_ts == 0


async def test_a_share_that_is_full_takes_no_more_rows_of_any_kind(pair: Mesh) -> None:
    async with pair["b.test"].database.transaction() as session:
        await store.change_peer(session, "a.test", rules=Rules(max_statements=2).model_dump_json())
    for number in range(4):
        await pair["a.test"].bound(ALICE, f"{number}@example.org", str(number))
    await pair.at_rest()
    addresses = [f"{number}@example.org" for number in range(4)]
    assert set(await found(pair["b.test"], *addresses)) == {"0@example.org", "1@example.org"}
    async with pair["b.test"].database.reading() as session:
        assert await store.count_statements(session, "a.test") == 2
        assert [refused.position for refused in await store.all_set_aside(session, "a.test")] == [3]
    assert (await peer(pair["b.test"], "a.test")).taken_position == 4


async def test_what_a_peer_says_it_refuses_is_noted_only_of_what_it_was_sent(pair: Mesh) -> None:
    await pair["a.test"].bound(ALICE)
    exchange = pair["a.test"].state["exchange"]

    class Liar:
        async def push(self, *_: Any) -> dict[str, Any]:
            return {"position": 1, "refused": {"1": "no", "2": "no", "x": "no", "99999999999999999999": "no"}}

    exchange._client = Liar()
    await exchange._push(await peer(pair["a.test"], "b.test"))
    async with pair["a.test"].database.reading() as session:
        assert [refused.position for refused in await store.all_set_aside(session, "b.test")] == [1]
