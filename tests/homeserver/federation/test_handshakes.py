"""What the endpoints by which others come into rooms, and read them, answer to whom."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
from httpx import Response

from identity_server.homeserver.events.event import Event
from identity_server.homeserver.events.hashing import event_id, hash_and_sign
from identity_server.homeserver.events.versions import VERSIONS
from tests.homeserver.federation.peer import V1, Peer, PeerRoom, open_peer
from tests.homeserver.federation.servers import Authority, Homeserver, Json, Person

V2 = "/_matrix/federation/v2"


@pytest.fixture
def engine() -> str:
    """What is asked of storage here is asked on both engines elsewhere."""
    return "sqlite"


@pytest.fixture
async def peer(here: Homeserver, authority: Authority) -> AsyncIterator[Peer]:
    async with open_peer(here, authority) as peer:
        yield peer


@pytest.fixture
async def alice(here: Homeserver) -> Person:
    return await here.person("alice")


def told(answer: Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["errcode"]


def signed(peer: Peer, pdu: Json, version: str = "11") -> Event:
    sealed = hash_and_sign(pdu, VERSIONS[version], peer.name, peer.key)
    return Event(event_id(sealed, VERSIONS[version]), sealed, VERSIONS[version])


async def test_a_template_is_made_for_who_may_come_in(peer: Peer, alice: Person) -> None:
    room_id = await alice.creates(preset="public_chat", room_version="11")
    closed_id = await alice.creates(preset="private_chat", room_version="11")
    mallory = quote(peer.mallory)
    made = await peer.ask("GET", f"{V1}/make_join/{quote(room_id)}/{mallory}?ver=11&ver=12")
    assert made.json()["room_version"] == "11"
    event = made.json()["event"]
    assert {event["sender"], event["state_key"]} == {peer.mallory}
    assert (event["type"], event["room_id"], event["content"]) == ("m.room.member", room_id, {"membership": "join"})
    refused = await peer.ask("GET", f"{V1}/make_join/{quote(room_id)}/{mallory}?ver=10")
    assert told(refused) == (400, "M_INCOMPATIBLE_ROOM_VERSION")
    assert refused.json()["room_version"] == "11"
    unsaid = await peer.ask("GET", f"{V1}/make_join/{quote(room_id)}/{mallory}")
    assert told(unsaid) == (400, "M_INCOMPATIBLE_ROOM_VERSION")
    for path, expected in (
        (f"make_join/!nowhere:{alice.server.name}/{mallory}?ver=11", (404, "M_NOT_FOUND")),
        (f"make_join/{quote(room_id)}/{quote(alice.user_id)}?ver=11", (403, "M_FORBIDDEN")),
        (f"make_join/{quote(closed_id)}/{mallory}?ver=11", (403, "M_FORBIDDEN")),
        (f"make_knock/{quote(closed_id)}/{mallory}?ver=11", (403, "M_FORBIDDEN")),
        (f"make_leave/{quote(room_id)}/{mallory}", (403, "M_FORBIDDEN")),
    ):
        assert told(await peer.ask("GET", f"{V1}/{path}")) == expected, path


async def test_only_what_was_asked_for_can_be_sent_in(peer: Peer, alice: Person) -> None:
    room_id = await alice.creates(preset="public_chat", room_version="11")
    made = await peer.ask("GET", f"{V1}/make_join/{quote(room_id)}/{quote(peer.mallory)}?ver=11")
    template = made.json()["event"]
    template.pop("origin")

    async def sent(pdu: Json, name: str | None = None, *, door: str = "send_join", version: str = V2) -> Response:
        event = signed(peer, pdu)
        path = f"{version}/{door}/{quote(room_id)}/{quote(name or event.event_id)}"
        return await peer.ask("PUT", path, event.pdu)

    assert told(await sent(template, "$another")) == (400, "M_INVALID_PARAM")
    assert told(await sent({**template, "content": {"membership": "leave"}})) == (400, "M_INVALID_PARAM")
    assert told(await sent({**template, "type": "m.room.name"})) == (400, "M_INVALID_PARAM")
    assert told(await sent({**template, "state_key": alice.user_id})) == (400, "M_INVALID_PARAM")
    assert told(await sent({**template, "sender": alice.user_id})) == (400, "M_INVALID_PARAM")
    assert told(await sent({**template, "room_id": "!another:a"})) == (400, "M_INVALID_PARAM")
    assert told(await sent(template, door="send_leave")) == (400, "M_INVALID_PARAM")
    assert told(await sent(template, door="send_knock", version=V1)) == (400, "M_INVALID_PARAM")
    unsigned = {**signed(peer, template).pdu, "signatures": {peer.name: {}}}
    path = f"{V2}/send_join/{quote(room_id)}/{quote(signed(peer, template).event_id)}"
    assert told(await peer.ask("PUT", path, unsigned)) == (400, "M_INVALID_PARAM")
    broken = {**template, "content": {"membership": "join", "value": 1.1}}
    assert told(await peer.ask("PUT", path, {**broken, "signatures": {}, "hashes": {}})) == (400, "M_BAD_JSON")

    joined = await sent(template, version=V1)
    status, answer = joined.json()
    assert status == 200
    assert {"m.room.create", "m.room.member"} <= {pdu["type"] for pdu in answer["state"]}
    assert answer["servers_in_room"]
    again = await sent(template)
    assert (again.status_code, again.json()["members_omitted"]) == (200, False)


async def test_an_invitation_is_signed_only_if_it_is_one(peer: Peer, alice: Person, here: Homeserver) -> None:
    room_id = f"!somewhere:{peer.name}"
    base = {
        "room_id": room_id,
        "type": "m.room.member",
        "sender": peer.mallory,
        "state_key": alice.user_id,
        "content": {"membership": "invite"},
        "depth": 5,
        "prev_events": ["$before"],
        "auth_events": ["$create"],
        "origin_server_ts": 1_700_000_000_000,
    }

    async def invited(pdu: Json, version: Any = "11", **body: Any) -> Response:
        event = signed(peer, pdu)
        content = {"room_version": version, "event": event.pdu, "invite_room_state": [], **body}
        return await peer.ask("PUT", f"{V2}/invite/{quote(room_id)}/{quote(event.event_id)}", content)

    assert told(await invited(base, "unheard of")) == (400, "M_INCOMPATIBLE_ROOM_VERSION")
    assert told(await invited({**base, "content": {"membership": "join"}})) == (400, "M_INVALID_PARAM")
    assert told(await invited({**base, "type": "m.room.name"})) == (400, "M_INVALID_PARAM")
    assert told(await invited({**base, "state_key": peer.mallory})) == (400, "M_INVALID_PARAM")
    assert told(await invited({**base, "sender": "@a:elsewhere.invalid"})) == (400, "M_INVALID_PARAM")
    nobody = await invited({**base, "state_key": f"@nobody:{here.name}"})
    assert here.name in nobody.json()["event"]["signatures"]  # who is registered is not to be found out so
    assert told(await invited(base, event={**signed(peer, base).pdu, "signatures": {}})) == (400, "M_INVALID_PARAM")
    assert told(await invited(base, event=[])) == (400, "M_BAD_JSON")
    first = signed(peer, base)
    v1 = await peer.ask("PUT", f"{V1}/invite/{quote(room_id)}/{quote(first.event_id)}", first.pdu)
    assert told(v1) == (400, "M_INCOMPATIBLE_ROOM_VERSION")

    shown = {"type": "m.room.name", "state_key": "", "sender": peer.mallory, "content": {"name": "There"}}
    taken = await invited(base, invite_room_state=[shown, {"type": 1}, "nonsense"])
    assert set(taken.json()["event"]["signatures"]) == {peer.name, here.name}
    told_of = await alice.ok("GET", "/sync", timeout=0)
    events = told_of["rooms"]["invite"][room_id]["invite_state"]["events"]
    assert [event["type"] for event in events] == ["m.room.name", "m.room.member"]
    # Whoever is not in the room cannot say that it is over.
    leave = signed(peer, {**base, "sender": f"@other:{peer.name}", "content": {"membership": "leave"}})
    await peer.send(leave.pdu)
    assert await alice.membership(room_id) == "invite"
    # Nor does what was before it end an invitation, such as the end of a ban that is heard of late.
    before = signed(peer, {**base, "depth": 4, "content": {"membership": "leave"}})
    await peer.send(before.pdu)
    assert await alice.membership(room_id) == "invite"
    leave = signed(peer, {**base, "content": {"membership": "leave"}})
    await peer.send(leave.pdu)
    assert await alice.membership(room_id) is None


async def test_an_invitation_that_comes_back_as_no_event_is_not_sent(peer: Peer, alice: Person) -> None:
    room_id = await alice.creates(preset="public_chat")
    for spoilt, refusal in (({"value": 1.1}, (400, "M_BAD_JSON")), ({"signatures": {}}, (502, "M_UNKNOWN"))):
        peer.answers["invite/"] = lambda request, spoilt=spoilt: {"event": {**request.state.body["event"], **spoilt}}
        answer = await alice.ask("POST", f"/rooms/{quote(room_id)}/invite", {"user_id": peer.mallory})
        assert told(answer) == refusal
    assert ("m.room.member", peer.mallory) not in await alice.state(room_id)


async def test_what_a_room_was_can_be_read_by_those_who_are_in_it(peer: Peer, alice: Person, here: Homeserver) -> None:
    room_id = await alice.creates(preset="public_chat", room_version="11")
    secret_id = await alice.creates(preset="private_chat", room_version="11")
    secret = await alice.says(secret_id, "secret")
    first = await alice.says(room_id, "first")
    room = await peer.joins(room_id)
    last = await alice.says(room_id, "last")
    name = quote(room_id)

    async def got(path: str) -> Json:
        answer = await peer.ask("GET", f"{V1}/{path}")
        assert answer.status_code == 200, answer.text
        read: Json = answer.json()
        return read

    assert (await got(f"event/{quote(last)}"))["pdus"][0]["content"]["body"] == "last"
    ids = await got(f"state_ids/{name}?event_id={quote(room.last.event_id)}")
    before = {event.event_id for key, event in room.state.items() if key != ("m.room.member", peer.mallory)}
    assert set(ids["pdu_ids"]) == before
    assert set(ids["auth_chain_ids"]) <= before
    whole = await got(f"state/{name}?event_id={quote(last)}")
    assert {event_id(pdu, VERSIONS["11"]) for pdu in whole["pdus"]} == before | {room.last.event_id}
    chain = await got(f"event_auth/{name}/{quote(last)}")
    assert "m.room.create" in {pdu["type"] for pdu in chain["auth_chain"]}
    back = await got(f"backfill/{name}?v={quote(last)}&limit=3")
    assert [event_id(pdu, VERSIONS["11"]) for pdu in back["pdus"]] == [last, room.last.event_id, first]
    query = {"latest_events": [last], "earliest_events": [first], "limit": 10}
    missing = (await peer.ask("POST", f"{V1}/get_missing_events/{name}", query)).json()
    assert [event_id(pdu, VERSIONS["11"]) for pdu in missing["events"]] == [room.last.event_id]
    near = await got(f"timestamp_to_event/{name}?ts=0&dir=f")
    assert near["event_id"] == room.state["m.room.create", ""].event_id
    for path in (
        f"event/{quote(secret)}",
        f"state_ids/{quote(secret_id)}?event_id={quote(secret)}",
        f"backfill/{quote(secret_id)}?v={quote(secret)}&limit=1",
    ):
        assert told(await peer.ask("GET", f"{V1}/{path}")) == (403, "M_FORBIDDEN"), path
    for path in ("event/$unknown", f"state_ids/{name}?event_id=$unknown", f"state_ids/{name}?event_id={quote(secret)}"):
        assert told(await peer.ask("GET", f"{V1}/{path}")) == (404, "M_NOT_FOUND"), path
    assert told(await peer.ask("GET", f"{V1}/query/weather")) == (404, "M_UNRECOGNIZED")
    # From version 12 on no event names m.room.create, but it belongs to what they rest on.
    newer_id = await alice.creates(preset="public_chat", room_version="12")
    await peer.joins(newer_id)
    chain = await got(f"event_auth/{quote(newer_id)}/{quote(await alice.says(newer_id, 'new'))}")
    assert "m.room.create" in {pdu["type"] for pdu in chain["auth_chain"]}
    assert here.name == alice.server.name


async def test_history_that_was_not_meant_for_a_server_is_redacted_for_it(peer: Peer, alice: Person) -> None:
    visibility = {"type": "m.room.history_visibility", "state_key": "", "content": {"history_visibility": "joined"}}
    room_id = await alice.creates(preset="public_chat", room_version="11", initial_state=[visibility])
    hidden = await alice.says(room_id, "hidden")
    room: PeerRoom = await peer.joins(room_id)
    shown = await alice.says(room_id, "shown")
    back = (await peer.ask("GET", f"{V1}/backfill/{quote(room_id)}?v={quote(shown)}&limit=10")).json()
    contents = {event_id(pdu, VERSIONS["11"]): pdu["content"] for pdu in back["pdus"]}
    assert contents[shown]["body"] == "shown"
    assert contents[hidden] == {}
    assert room.room_id == room_id

    bob = await alice.server.person("bob")
    await bob.joins(room_id)
    password = {"type": "m.login.password", "identifier": {"type": "m.id.user", "user": "alice"}, "password": "x"}
    await alice.ok("POST", "/account/deactivate", {"auth": password, "erase": True})
    erased = (await peer.ask("GET", f"{V1}/event/{quote(shown)}")).json()
    assert erased["pdus"][0]["content"] == {}
