from typing import Any

from httpx import AsyncClient

from tests.homeserver.conftest import Register
from tests.homeserver.rooms.conftest import Person


async def found(person: Person, term: str, **more: Any) -> list[str]:
    answer = await person.do("POST", "/user_directory/search", {"search_term": term, **more})
    return [one["user_id"].partition(":")[0] for one in answer["results"]]


async def test_one_finds_whom_one_can_meet(client: AsyncClient, register: Register) -> None:
    alice, bob, carol = [Person(client, await register(name)) for name in ("alice", "bob", "carol")]
    await bob.do("PUT", f"/profile/{bob.user_id}/displayname", {"displayname": 'Robert "Ünder" 50%'})
    await bob.do("PUT", f"/profile/{bob.user_id}/avatar_url", {"avatar_url": "mxc://hs.test/abc"})
    assert await found(alice, "bob") == []

    private = await bob.create_room(invite=[alice.user_id])
    assert await found(alice, "bob") == []
    await alice.join(private)
    answer = await alice.do("POST", "/user_directory/search", {"search_term": "ROBERT"})
    assert answer == {
        "limited": False,
        "results": [{"user_id": bob.user_id, "display_name": 'Robert "Ünder" 50%', "avatar_url": "mxc://hs.test/abc"}],
    }
    for term in ('"ünder"', "50% rob", "@bob:hs.test", "BO", "b:hs"):
        assert await found(alice, term) == ["@bob"], term
    for term in ("", " ", "%", "under", "alice", "rob x"):
        assert await found(alice, term) == ([] if term != "%" else ["@bob"]), term
    assert await found(carol, "bob") == []

    # A name for one room is not told to others, nor searched.
    await bob.put_state(private, "m.room.member", {"membership": "join", "displayname": "Zed"}, bob.user_id)
    assert await found(alice, "zed") == []
    await alice.do("POST", f"/rooms/{private}/leave", {})
    assert await found(alice, "bob") == []

    assert await found(bob, "bob") == []
    public = await bob.create_room(preset="public_chat")
    assert await found(carol, "bob") == await found(bob, "bob") == ["@bob"]
    await bob.put_state(public, "m.room.join_rules", {"join_rule": "invite"})
    assert await found(carol, "bob") == []
    await bob.put_state(public, "m.room.history_visibility", {"history_visibility": "world_readable"})
    assert await found(carol, "bob") == ["@bob"]
    await bob.do("POST", f"/rooms/{public}/leave", {})
    assert await found(carol, "bob") == []


async def test_the_best_come_first_and_no_more_than_asked_for(client: AsyncClient, register: Register) -> None:
    people = [Person(client, await register(name)) for name in ("searcher", "ann", "joanna", "annette", "hann")]
    room_id = await people[0].create_room(preset="public_chat")
    for person in people[1:]:
        await person.join(room_id)
    assert await found(people[0], "ann") == ["@ann", "@annette", "@hann", "@joanna"]
    answer = await people[0].do("POST", "/user_directory/search", {"search_term": "ann", "limit": 2})
    assert (answer["limited"], len(answer["results"])) == (True, 2)
    nonsense = await people[0].ask("POST", "/user_directory/search", {"search_term": 3})
    assert nonsense.status_code == 400


async def test_rooms_that_two_share_are_listed(client: AsyncClient, register: Register) -> None:
    alice, bob = [Person(client, await register(name)) for name in ("alice", "bob")]
    shared = [await alice.create_room(preset="public_chat") for _ in range(2)]
    await alice.create_room()
    for room_id in shared:
        await bob.join(room_id)
    url = "/_matrix/client/v1/mutual_rooms"
    assert await alice.do("GET", url, user_id=bob.user_id) == {"joined": sorted(shared), "count": 2}
    assert await alice.do("GET", url, user_id="@nobody:hs.test") == {"joined": [], "count": 0}
    assert (await alice.ask("GET", url, user_id=alice.user_id)).json()["errcode"] == "M_INVALID_PARAM"
    assert (await alice.ask("GET", url, user_id="nobody")).status_code == 400
