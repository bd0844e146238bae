"""Rooms over two servers, ours and Synapse, in both directions and every room version in use."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from identity_server.matrix.json_api import Refused
from tests.interop.conftest import IS_ALL_ASKED, PAIRS
from tests.interop.people import People, Person
from tests.interop.servers import SYNAPSE, Homeserver

Story = TypeVar("Story", bound=Callable[..., Awaitable[None]])

VERSIONS = ("10", "11", "12")


def in_every_version(story: Story) -> Story:
    """For stories in which versions differ; the others are told of the newest, or of all with ``INTEROP_ALL=1``."""
    vars(story)["in_every_version"] = True
    return story


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    is_for_all = IS_ALL_ASKED or hasattr(metafunc.function, "in_every_version")
    settings = [
        (pair, version) for pair in PAIRS for version in (VERSIONS if is_for_all and SYNAPSE in pair else VERSIONS[-1:])
    ]
    ids = [f"{' with '.join(pair)}, {version}" for pair, version in settings]
    metafunc.parametrize("setting", settings, ids=ids)


@pytest.fixture
def pair(setting: tuple[tuple[str, str], str]) -> tuple[str, str]:
    return setting[0]


@pytest.fixture
def version(setting: tuple[tuple[str, str], str]) -> str:
    return setting[1]


@pytest.fixture
async def alice(people: People, host: Homeserver) -> Person:
    return await people("alice", host)


@pytest.fixture
async def bob(people: People, guest: Homeserver) -> Person:
    return await people("bob", guest)


@in_every_version
async def test_a_public_room_is_found_by_its_alias_joined_and_talked_in(
    alice: Person, bob: Person, version: str
) -> None:
    name = alice.user_id.partition(":")[0].removeprefix("@")
    room = await alice.creates_room(version, preset="public_chat", room_alias_name=name, topic="Tea")
    alias = f"#{name}:{alice.server.name}"

    found = await bob.asks("GET", f"/directory/room/{alias.replace('#', '%23')}")
    assert found["room_id"] == room
    assert alice.server.name in found["servers"]

    assert await bob.joins(alias) == room
    await alice.sees_membership(room, bob, "join")
    await bob.sees(room, "m.room.topic", {"topic": "Tea"})
    await bob.sees(room, "m.room.create", {"room_version": version})

    question = await alice.says(room, "One lump or two?")
    assert (await bob.hears(room, question))["content"]["body"] == "One lump or two?"
    answer = await bob.says(room, "Two.")
    heard = await alice.hears(room, answer)
    assert (heard["sender"], heard["content"]["body"]) == (bob.user_id, "Two.")

    assert await alice.members(room) == {alice.user_id: "join", bob.user_id: "join"}
    assert await bob.members(room) == {alice.user_id: "join", bob.user_id: "join"}


@in_every_version
async def test_an_invitation_is_accepted_and_one_who_left_is_invited_again(
    alice: Person, bob: Person, version: str
) -> None:
    room = await alice.creates_room(version, preset="private_chat", name="The shed")
    with pytest.raises(Refused, match="M_FORBIDDEN"):
        await bob.joins(room, via=alice.server)
    await alice.invites(room, bob, reason="Do come")
    invitation = await bob.is_invited(room)
    assert invitation.content("m.room.name") == {"name": "The shed"}
    assert invitation.content("m.room.member", bob.user_id)["membership"] == "invite"
    await bob.joins(room)
    await alice.sees_membership(room, bob, "join")
    first = await bob.says(room, "Here I am")
    await alice.hears(room, first)

    await bob.leaves(room)
    await bob.has_left(room)
    await alice.sees_membership(room, bob, "leave")
    missed = await alice.says(room, "Gone?")
    await alice.sets(room, "m.room.name", {"name": "The empty shed"})
    await alice.invites(room, bob)
    assert (await bob.is_invited(room)).content("m.room.name") == {"name": "The empty shed"}
    await bob.joins(room)
    await alice.sees_membership(room, bob, "join")
    # Asked for: Synapse's /sync may tell of the state before the gap here.
    assert await bob.state(room, "m.room.name") == {"name": "The empty shed"}
    assert missed in [event["event_id"] for event in await bob.history(room)]
    for speaker, listener in ((bob, alice), (alice, bob)):
        said = await speaker.says(room, "Back again")
        await listener.hears(room, said)


async def test_an_invitation_is_rejected_or_taken_back(alice: Person, bob: Person, version: str) -> None:
    room = await alice.creates_room(version, preset="private_chat")
    await alice.invites(room, bob)
    await bob.is_invited(room)
    await bob.leaves(room)
    await alice.sees_membership(room, bob, "leave")
    await bob.has_left(room)
    with pytest.raises(Refused, match="M_FORBIDDEN"):
        await bob.joins(room, via=alice.server)

    await alice.invites(room, bob)
    await bob.is_invited(room)
    await alice.kicks(room, bob, reason="A mistake")
    with pytest.raises(Refused, match="M_FORBIDDEN"):
        await bob.joins(room, via=alice.server)


@in_every_version
async def test_who_is_kicked_may_return_and_who_is_banned_may_not(alice: Person, bob: Person, version: str) -> None:
    room = await alice.creates_room(version, preset="public_chat")
    await bob.joins(room, via=alice.server)
    with pytest.raises(Refused, match="M_FORBIDDEN"):
        await bob.kicks(room, alice)
    with pytest.raises(Refused, match="M_FORBIDDEN"):
        await bob.sets(room, "m.room.topic", {"topic": "Mine now"})

    await alice.kicks(room, bob, reason="Calm down")
    kicked = await bob.has_left(room)
    assert kicked.content("m.room.member", bob.user_id)["reason"] == "Calm down"
    await bob.joins(room, via=alice.server)
    await alice.sees_membership(room, bob, "join")
    # Else he may miss that he was back, and Synapse tells one who is banned nothing more than his last sync.
    await bob.sees_membership(room, bob, "join")

    await alice.bans(room, bob)
    banned = await bob.has_left(room)
    assert banned.membership_of(bob.user_id) == "ban"
    with pytest.raises(Refused, match="M_FORBIDDEN"):
        await bob.says(room, "But")
    with pytest.raises(Refused, match="M_FORBIDDEN"):
        await bob.joins(room, via=alice.server)

    await alice.unbans(room, bob)
    await bob.joins(room, via=alice.server)
    await alice.hears(room, await bob.says(room, "Sorry"))


async def test_a_guest_given_power_uses_it_on_the_host(
    people: People, alice: Person, bob: Person, version: str
) -> None:
    room = await alice.creates_room(version, preset="public_chat")
    carol = await people("carol", alice.server)
    await carol.joins(room)
    await bob.joins(room, via=alice.server)
    await alice.empowers(room, 50, bob)
    await bob.sees(room, "m.room.power_levels", {"users_default": 0})
    await bob.until(
        lambda view: view.room(room).content("m.room.power_levels").get("users", {}).get(bob.user_id) == 50, "his power"
    )
    await bob.sets(room, "m.room.topic", {"topic": "Order"})
    await alice.sees(room, "m.room.topic", {"topic": "Order"})
    await bob.kicks(room, carol)
    await carol.has_left(room)
    await bob.bans(room, carol)
    await alice.sees_membership(room, carol, "ban")
    with pytest.raises(Refused, match=r"M_FORBIDDEN|M_BAD_STATE"):
        await carol.joins(room)


async def test_history_older_than_the_join_is_paged_through(alice: Person, bob: Person, version: str) -> None:
    room = await alice.creates_room(version, preset="public_chat")
    said = [await alice.says(room, f"Chapter {number}") for number in range(45)]
    await bob.joins(room, via=alice.server)
    await bob.hears(room, await alice.says(room, "The end"))
    history = await bob.history(room, page=20)
    bodies = [event["content"].get("body") for event in history if event["type"] == "m.room.message"]
    assert bodies == ["The end", *(f"Chapter {number}" for number in reversed(range(45)))]
    assert history[-1]["type"] == "m.room.create"
    assert [event["event_id"] for event in history if event["event_id"] in said] == said[::-1]
    mine = await alice.history(room, page=50)
    assert [event["event_id"] for event in mine] == [event["event_id"] for event in history]


async def test_history_from_before_an_invitation_may_be_kept_from_the_guest(
    alice: Person, bob: Person, version: str
) -> None:
    hidden = {"type": "m.room.history_visibility", "state_key": "", "content": {"history_visibility": "joined"}}
    room = await alice.creates_room(version, preset="private_chat", initial_state=[hidden])
    secret = await alice.says(room, "Between ourselves")
    await alice.invites(room, bob)
    await bob.is_invited(room)
    await bob.joins(room)
    await alice.sees_membership(room, bob, "join")
    told = await alice.says(room, "Welcome")
    await bob.hears(room, told)
    seen = [event["event_id"] for event in await bob.history(room)]
    assert told in seen
    assert secret not in seen
    with pytest.raises(Refused) as refusal:
        await bob.event(room, secret)
    assert refusal.value.status in (403, 404)


@in_every_version
async def test_what_is_redacted_is_gone_on_both_servers(alice: Person, bob: Person, version: str) -> None:
    room = await alice.creates_room(version, preset="public_chat")
    await bob.joins(room, via=alice.server)
    for speaker, listener in ((alice, bob), (bob, alice)):
        slip = await speaker.says(room, "My password is …")
        await listener.hears(room, slip)
        redaction = await speaker.redacts(room, slip, "oops")
        heard = await listener.hears(room, redaction)
        assert heard["type"] == "m.room.redaction"
        assert (heard["content"].get("redacts") if version in ("11", "12") else heard.get("redacts")) == slip
        for person in (speaker, listener):
            left = await person.event(room, slip)
            assert left["content"] == {}
            assert left["unsigned"]["redacted_because"]["content"]["reason"] == "oops"
    # The host may redact what the guest said, not the other way round.
    word = await bob.says(room, "A rude word")
    await alice.hears(room, word)
    await bob.hears(room, await alice.redacts(room, word, "manners"))
    assert (await bob.event(room, word))["content"] == {}
    speech = await alice.says(room, "A speech")
    await bob.hears(room, speech)
    with pytest.raises(Refused, match="M_FORBIDDEN"):
        await bob.redacts(room, speech, "too long")


@in_every_version
async def test_state_written_on_both_sides_of_a_partition_is_the_same_when_it_ends(
    people: People, alice: Person, bob: Person, version: str
) -> None:
    room = await alice.creates_room(version, preset="public_chat", topic="At first")
    await bob.joins(room, via=alice.server)
    await alice.empowers(room, 50, bob)
    await bob.until(
        lambda view: view.room(room).content("m.room.power_levels").get("users", {}).get(bob.user_id) == 50, "his power"
    )
    carol, dan = await people("carol", alice.server), await people("dan", bob.server)
    await carol.joins(room)
    await bob.sees_membership(room, carol, "join")
    await dan.joins(room)
    await alice.sees_membership(room, dan, "join")
    with alice.server.link.down(), bob.server.link.down():
        await alice.sets(room, "m.room.topic", {"topic": "Alice's"})
        await bob.sets(room, "m.room.topic", {"topic": "Bob's"})
        await alice.bans(room, dan)
        await dan.says(room, "Still here")
        await bob.sets(room, "m.room.name", {"name": "Named by Bob"})
        words = [await alice.says(room, "Anybody?"), await bob.says(room, "Hello?")]
    last = [await alice.says(room, "There you are"), await bob.says(room, "And you")]
    for event_id in (*words, *last):
        await alice.hears(room, event_id)
        await bob.hears(room, event_id)
    # One more, after both sides know of both.
    await bob.hears(room, await alice.says(room, "As I said"))
    await alice.hears(room, await bob.says(room, "Quite"))
    states = [
        {key: event["event_id"] for key, event in (await person.whole_state(room)).items()} for person in (alice, bob)
    ]
    assert states[0] == states[1]
    assert (await bob.members(room))[dan.user_id] == "ban"
    assert await alice.state(room, "m.room.name") == {"name": "Named by Bob"}
    assert (await alice.state(room, "m.room.topic"))["topic"] in ("Alice's", "Bob's")
    with pytest.raises(Refused, match="M_FORBIDDEN"):
        await dan.says(room, "Not any more")


async def test_a_server_that_was_down_is_told_what_it_missed(alice: Person, bob: Person, version: str) -> None:
    room = await alice.creates_room(version, preset="public_chat")
    await bob.joins(room, via=alice.server)
    await alice.sees_membership(room, bob, "join")
    with bob.server.link.down():
        missed = [await alice.says(room, f"Are you there? {number}") for number in range(30)]
    last = await alice.says(room, "Ah")
    await bob.hears(room, last)
    heard = [event["event_id"] for event in await bob.history(room, page=50)]
    assert [event_id for event_id in heard if event_id in missed] == missed[::-1]
