"""Two of ours: who is where can join, invite, talk, leave, and nothing is lost while one of them is down."""

from urllib.parse import quote

import pytest

from identity_server.homeserver.federation import gap
from tests.homeserver.federation.servers import Homeserver, Person, until

PUBLIC = {"preset": "public_chat"}


async def people(here: Homeserver, there: Homeserver) -> tuple[Person, Person]:
    return await here.person("alice"), await there.person("bob")


async def test_who_joins_a_room_elsewhere_talks_with_those_who_are_there(here: Homeserver, there: Homeserver) -> None:
    alice, bob = await people(here, there)
    room_id = await alice.creates(**PUBLIC, name="Both")
    await alice.says(room_id, "before")
    await bob.joins(room_id, here.name)
    assert (await bob.state(room_id)) == (await alice.state(room_id))
    await alice.says(room_id, "one")
    await until(lambda: _hears(bob, room_id, "one"))
    await bob.says(room_id, "two")
    await until(lambda: _hears(alice, room_id, "two"))
    assert await alice.texts(room_id) == ["before", "one", "two"]
    # What was said before is fetched when somebody looks.
    assert await bob.texts(room_id) == ["before", "one", "two"]
    assert (await bob.history(room_id))[0]["type"] == "m.room.create"


async def test_an_invitation_reaches_who_is_elsewhere_and_can_be_taken_up_or_turned_down(
    here: Homeserver, there: Homeserver
) -> None:
    alice, bob = await people(here, there)
    room_id = await alice.creates(preset="private_chat", name="Come in")
    refused = await bob.ask("POST", f"/join/{quote(room_id)}", server_name=here.name)
    assert (refused.status_code, refused.json()["errcode"]) == (403, "M_FORBIDDEN")
    await alice.invites(room_id, bob)
    told = await bob.ok("GET", "/sync", timeout=0)
    shown = {event["type"]: event for event in told["rooms"]["invite"][room_id]["invite_state"]["events"]}
    assert shown["m.room.name"]["content"] == {"name": "Come in"}
    assert {"m.room.create", "m.room.member"} <= shown.keys()
    await bob.leaves(room_id)
    await until(lambda: _is_in_state(alice, room_id, bob, "leave"))
    await alice.invites(room_id, bob)
    await bob.joins(room_id)
    await until(lambda: _is_in_state(alice, room_id, bob, "join"))


async def test_an_invitation_that_is_taken_back_is_gone_there_too(here: Homeserver, there: Homeserver) -> None:
    alice, bob = await people(here, there)
    room_id = await alice.creates(preset="private_chat")
    await alice.invites(room_id, bob)
    assert await bob.membership(room_id) == "invite"
    await alice.ok("POST", f"/rooms/{quote(room_id)}/kick", {"user_id": bob.user_id})

    async def is_gone() -> bool:
        return await bob.membership(room_id) != "invite"

    await until(is_gone)


async def test_who_left_or_was_thrown_out_hears_no_more_and_hears_again_after_coming_back(
    here: Homeserver, there: Homeserver, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = await people(here, there)
    room_id = await alice.creates(**PUBLIC)
    await bob.joins(room_id, here.name)
    await bob.leaves(room_id)
    await until(lambda: _is_in_state(alice, room_id, bob, "leave"))
    await alice.says(room_id, "unheard")
    await bob.joins(room_id, here.name)
    await alice.says(room_id, "heard")
    await until(lambda: _hears(bob, room_id, "heard"))
    await alice.ok("POST", f"/rooms/{quote(room_id)}/ban", {"user_id": bob.user_id, "reason": "no"})

    async def is_out() -> bool:
        return await bob.membership(room_id) is None

    await until(is_out)
    refused = await bob.ask("POST", f"/join/{quote(room_id)}", server_name=here.name)
    assert refused.status_code == 403
    await alice.ok("POST", f"/rooms/{quote(room_id)}/unban", {"user_id": bob.user_id})
    await bob.joins(room_id, here.name)
    assert await bob.state(room_id) == await alice.state(room_id)
    assert "unheard" in await bob.texts(room_id)

    # If too much happened meanwhile, what he is told begins where he comes back.
    monkeypatch.setattr(gap, "_MOST_ROUNDS", 0)
    await bob.leaves(room_id)
    await until(lambda: _is_in_state(alice, room_id, bob, "leave"))
    await alice.says(room_id, "too much")
    await bob.joins(room_id, here.name)
    timeline = (await bob.ok("GET", "/sync", timeout=0))["rooms"]["join"][room_id]["timeline"]
    assert [(event["type"], event.get("state_key")) for event in timeline["events"]] == [("m.room.member", bob.user_id)]
    assert timeline["limited"] is True


async def test_knocking_on_a_room_elsewhere_and_being_let_in(here: Homeserver, there: Homeserver) -> None:
    alice, bob = await people(here, there)
    room_id = await alice.creates(name="Knock", initial_state=[_join_rules("knock")])
    await bob.ok("POST", f"/knock/{quote(room_id)}", {"reason": "please"}, server_name=here.name)
    await until(lambda: _is_in_state(alice, room_id, bob, "knock"))
    told = await bob.ok("GET", "/sync", timeout=0)
    assert room_id in told["rooms"]["knock"]
    await alice.invites(room_id, bob)
    await bob.joins(room_id)
    await until(lambda: _is_in_state(alice, room_id, bob, "join"))


async def test_a_restricted_room_lets_in_the_members_of_another(here: Homeserver, there: Homeserver) -> None:
    alice, bob = await people(here, there)
    club = await alice.creates(**PUBLIC)
    allow = [{"type": "m.room_membership", "room_id": club}]
    room_id = await alice.creates(initial_state=[_join_rules("restricted", allow=allow)])
    refused = await bob.ask("POST", f"/join/{quote(room_id)}", server_name=here.name)
    assert (refused.status_code, refused.json()["errcode"]) == (403, "M_FORBIDDEN")
    await bob.joins(club, here.name)
    await bob.joins(room_id, here.name)
    assert await bob.state(room_id) == await alice.state(room_id)
    # Who is in a room that it left, a server cannot tell any more.
    await alice.leaves(club)
    await bob.leaves(room_id)
    await until(lambda: _is_in_state(alice, room_id, bob, "leave"))
    unsure = await bob.ask("POST", f"/join/{quote(room_id)}", server_name=here.name)
    assert (unsure.status_code, unsure.json()["errcode"]) == (400, "M_UNABLE_TO_AUTHORISE_JOIN")


async def test_what_was_said_while_a_server_was_down_arrives_when_it_is_back(
    here: Homeserver, there: Homeserver
) -> None:
    alice, bob = await people(here, there)
    room_id = await alice.creates(**PUBLIC)
    await bob.joins(room_id, here.name)
    await there.stop()
    said = [str(number) for number in range(60)]
    for text in said:
        await alice.says(room_id, text)
    await here.stop()  # what is owed is no matter of memory
    await here.start()
    await there.start()
    await bob.says(room_id, "back")  # whoever speaks is told at once what was kept
    await until(lambda: _hears(bob, room_id, said[-1]), 60)
    assert [text for text in await bob.texts(room_id) if text != "back"] == said


async def test_a_second_user_joins_where_the_server_is_already_and_the_last_to_leave_ends_it(
    here: Homeserver, there: Homeserver
) -> None:
    alice, bob = await people(here, there)
    carol = await there.person("carol")
    room_id = await alice.creates(**PUBLIC)
    await bob.joins(room_id, here.name)
    await carol.joins(room_id)
    await until(lambda: _is_in_state(alice, room_id, carol, "join"))
    await bob.leaves(room_id)
    await alice.says(room_id, "still there")
    await until(lambda: _hears(carol, room_id, "still there"))


async def _hears(person: Person, room_id: str, text: str) -> bool:
    return text in await person.texts(room_id, limit=50)


async def _is_in_state(person: Person, room_id: str, other: Person, membership: str) -> bool:
    path = f"/rooms/{quote(room_id)}/state/m.room.member/{quote(other.user_id)}"
    answer = await person.ask("GET", path)
    return answer.status_code == 200 and answer.json()["membership"] == membership


def _join_rules(rule: str, **more: object) -> dict[str, object]:
    return {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": rule, **more}}


async def test_an_invitation_is_turned_down_even_if_nobody_hears_of_it(here: Homeserver, there: Homeserver) -> None:
    alice, bob = await people(here, there)
    room_id = await alice.creates(preset="private_chat")
    await alice.invites(room_id, bob)
    await here.stop()
    await bob.leaves(room_id)
    assert await bob.membership(room_id) is None


async def test_the_next_server_is_asked_if_one_cannot_help(here: Homeserver, there: Homeserver) -> None:
    alice, bob = await people(here, there)
    room_id = await alice.creates(**PUBLIC)
    await bob.joins(room_id, "nobody.invalid", "not a name", here.name)
    assert await bob.state(room_id) == await alice.state(room_id)
    lost = await bob.ask("POST", f"/join/{quote('!nowhere:' + here.name)}", server_name=here.name)
    assert (lost.status_code, lost.json()["errcode"]) == (404, "M_NOT_FOUND")
    other_id = await alice.creates(**PUBLIC, room_version="11")
    unreachable = await bob.ask("POST", f"/join/{quote(other_id)}", server_name="nobody.invalid")
    assert unreachable.status_code == 502
    await bob.joins(other_id)  # by the server that its ID names
