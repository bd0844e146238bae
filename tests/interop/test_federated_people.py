"""What else servers tell each other of their users: profiles, devices, presence, media, bindings."""

import asyncio
import re
from collections.abc import Callable
from hashlib import sha256
from urllib.parse import urlsplit

import httpx
import nio
import pytest
from unpaddedbase64 import encode_base64

from identity_server.matrix.homeserver_client import HomeserverClient
from identity_server.matrix.json_api import Refused
from identity_server.matrix.signing import SigningKey, sign_json
from identity_server.matrix.threepid import EMAIL, Threepid
from tests.interop.nio_client import BY_NIO, Enter, in_a_room, meet
from tests.interop.people import PATIENCE_SECONDS, People, Person, quoted
from tests.interop.servers import Homeserver, World
from tests.interop.views import Json

pytestmark = BY_NIO

MEGOLM = "m.megolm.v1.aes-sha2"
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c63f8cfc0f01f0005000201"
    "6fcd9a5f0000000049454e44ae426082"
)


@pytest.fixture
async def alice(people: People, host: Homeserver) -> Person:
    return await people("alice", host)


@pytest.fixture
async def bob(people: People, guest: Homeserver) -> Person:
    return await people("bob", guest)


@pytest.fixture
async def room(alice: Person, bob: Person) -> str:
    """Both are in it, and both know."""
    room = await alice.creates_room(preset="public_chat")
    await bob.joins(room, via=alice.server)
    await alice.sees_membership(room, bob, "join")
    await bob.sees_membership(room, alice, "join")
    return room


async def test_a_profile_is_read_from_the_other_server_and_a_new_name_is_seen_in_rooms(
    alice: Person, bob: Person, room: str
) -> None:
    await alice.asks("PUT", f"/profile/{quoted(alice.user_id)}/displayname", {"displayname": "Alice of Wonderland"})
    await alice.asks("PUT", f"/profile/{quoted(alice.user_id)}/avatar_url", {"avatar_url": "mxc://test/cat"})
    profile = await bob.asks("GET", f"/profile/{quoted(alice.user_id)}")
    assert profile["displayname"] == "Alice of Wonderland"
    assert profile["avatar_url"] == "mxc://test/cat"
    one = await bob.asks("GET", f"/profile/{quoted(alice.user_id)}/displayname")
    assert one == {"displayname": "Alice of Wonderland"}
    await bob.sees(room, "m.room.member", {"displayname": "Alice of Wonderland"}, alice.user_id)
    with pytest.raises(Refused) as refusal:
        await bob.asks("GET", f"/profile/{quoted('@nobody:' + alice.server.name)}")
    assert refusal.value.status == 404
    with pytest.raises(Refused) as refusal:
        await bob.asks("GET", f"/directory/room/{quoted('#nothing:' + alice.server.name)}")
    assert (refusal.value.status, refusal.value.errcode) == (404, "M_NOT_FOUND")


async def test_the_public_rooms_of_the_other_server_are_listed_and_searched(alice: Person, bob: Person) -> None:
    name = f"Library {alice.user_id}"
    room = await alice.creates_room(preset="public_chat", visibility="public", name=name, topic="Quiet, please")
    await alice.creates_room(preset="public_chat", name="Not listed")
    search = {"limit": 20, "filter": {"generic_search_term": name}}
    found = await bob.asks("POST", "/publicRooms", search, server=alice.server.name)
    (entry,) = found["chunk"]
    assert (entry["room_id"], entry["name"], entry["topic"]) == (room, name, "Quiet, please")
    assert (entry["num_joined_members"], entry["world_readable"], entry["guest_can_join"]) == (1, False, False)
    listed = await bob.asks("GET", "/publicRooms", server=alice.server.name)
    assert room in [entry["room_id"] for entry in listed["chunk"]]


async def test_one_sees_the_other_typing(alice: Person, bob: Person, room: str) -> None:
    for typist, watcher in ((alice, bob), (bob, alice)):
        await typist.types(room)
        await watcher.until(lambda view, who=typist: who.user_id in view.room(room).typing, "somebody typing")
        await typist.types(room, typing=False)
        await watcher.until(lambda view, who=typist: who.user_id not in view.room(room).typing, "nobody typing")


async def test_one_sees_what_the_other_has_read(alice: Person, bob: Person, room: str) -> None:
    for speaker, reader in ((alice, bob), (bob, alice)):
        said = await speaker.says(room, "Read this")
        await reader.hears(room, said)
        await reader.reads(room, said)
        receipt = await speaker.until(
            lambda view, said=said, reader=reader: view.room(room).receipts.get(said, {}).get(reader.user_id),
            "a receipt",
        )
        assert receipt["ts"] > 0


async def test_one_sees_that_the_other_is_there(alice: Person, bob: Person, room: str) -> None:
    for one, other in ((alice, bob), (bob, alice)):
        path = f"/presence/{quoted(one.user_id)}/status"
        await one.asks("PUT", path, {"presence": "online", "status_msg": "at tea"})
        await other.until(
            lambda view, one=one: view.presence.get(one.user_id, {}).get("status_msg") == "at tea", "presence"
        )
        seen = await other.asks("GET", path)
        assert (seen["presence"], seen["status_msg"]) == ("online", "at tea")


async def test_a_message_to_a_device_arrives_at_it_alone(people: People, alice: Person, bob: Person, room: str) -> None:
    bobs_other = await people.again(bob)
    content = {"request": "unicorns"}
    await alice.asks("PUT", "/sendToDevice/test.one/1", {"messages": {bob.user_id: {bob.device_id: content}}})
    await alice.asks("PUT", "/sendToDevice/test.all/2", {"messages": {bob.user_id: {"*": content}}})
    for device, kinds in ((bob, ["test.one", "test.all"]), (bobs_other, ["test.all"])):
        await device.until(
            lambda view, kinds=kinds: [message["type"] for message in view.to_device] == kinds, "messages to the device"
        )
        assert all(message["sender"] == alice.user_id for message in device.view.to_device)
        assert all(message["content"] == content for message in device.view.to_device)


async def test_a_new_device_is_heard_of_and_its_keys_are_served(
    people: People, alice: Person, bob: Person, room: str
) -> None:
    await bob.syncs()
    await _devices(bob, alice)
    await bob.syncs()
    bob.view.changed_devices.clear()
    phone = await people.again(alice)
    await phone.asks("POST", "/keys/upload", _device_keys(phone))
    keys = await _devices_once(bob, alice, lambda devices: phone.device_id in devices)
    assert keys[phone.device_id]["keys"] == _device_keys(phone)["device_keys"]["keys"]

    claimed = await bob.asks(
        "POST", "/keys/claim", {"one_time_keys": {alice.user_id: {phone.device_id: "signed_curve25519"}}}
    )
    (key_id,) = claimed["one_time_keys"][alice.user_id][phone.device_id]
    assert key_id == "signed_curve25519:AAAAAQ"

    await phone.asks("POST", "/logout")
    await _devices_once(bob, alice, lambda devices: phone.device_id not in devices)


async def _devices_once(asker: Person, owner: Person, holds: Callable[[Json], bool]) -> Json:
    """The device keys of the owner, once they are as they should; they are asked for at each notice of a change."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            await asker.until(lambda view: owner.user_id in view.changed_devices, "the change of devices")
            asker.view.changed_devices.clear()
            devices = await _devices(asker, owner)
            if holds(devices):
                return devices


async def _devices(asker: Person, owner: Person) -> Json:
    """The owner's device keys. Synapse answers a failure when a notice has it fetch the same devices just then."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            answer = await asker.asks("POST", "/keys/query", {"device_keys": {owner.user_id: []}})
            if not answer["failures"]:
                devices: Json = answer["device_keys"].get(owner.user_id, {})
                return devices


async def test_an_encrypted_message_is_read_by_a_client_of_the_other_server_that_verified_the_sender(
    host: Homeserver, guest: Homeserver, enter: Enter
) -> None:
    alice, bob = await enter("alice", host), await enter("bob", guest)
    room = await in_a_room(alice, bob, initial_state=[{"type": "m.room.encryption", "content": {"algorithm": MEGOLM}}])
    await meet(alice, bob)
    for speaker, listener in ((alice, bob), (bob, alice)):
        heard = await listener.hears(room, await speaker.says(room, "Psst"))
        assert isinstance(heard, nio.RoomMessageText), heard
        assert (heard.body, heard.decrypted, heard.verified) == ("Psst", True, True)


async def test_media_is_downloaded_through_the_other_server(alice: Person, bob: Person) -> None:
    for owner, visitor in ((alice, bob), (bob, alice)):
        uploaded = await owner.http.post(
            f"{owner.server.url}/_matrix/media/v3/upload",
            params={"filename": "pixel.png"},
            content=PIXEL,
            headers={**_bearing(owner), "Content-Type": "image/png"},
        )
        assert uploaded.status_code == 200, uploaded.text
        mxc = urlsplit(uploaded.json()["content_uri"])
        assert mxc.netloc == owner.server.name
        base = f"{visitor.server.url}/_matrix/client/v1/media"
        downloaded = await visitor.http.get(f"{base}/download/{mxc.netloc}{mxc.path}", headers=_bearing(visitor))
        assert (downloaded.status_code, downloaded.content) == (200, PIXEL), downloaded.text
        assert downloaded.headers["content-type"] == "image/png"
        assert "pixel.png" in downloaded.headers["content-disposition"]
        small = await visitor.http.get(
            f"{base}/thumbnail/{mxc.netloc}{mxc.path}",
            params={"width": 32, "height": 32, "method": "scale"},
            headers=_bearing(visitor),
        )
        assert small.status_code == 200, small.text
        assert small.headers["content-type"].startswith("image/")
        missing = await visitor.http.get(f"{base}/download/{mxc.netloc}/nosuchmedia", headers=_bearing(visitor))
        assert (missing.status_code, missing.json()["errcode"]) == (404, "M_NOT_FOUND")


async def test_a_knock_is_heard_and_let_in(alice: Person, bob: Person) -> None:
    rules = {"type": "m.room.join_rules", "state_key": "", "content": {"join_rule": "knock"}}
    room = await alice.creates_room(preset="private_chat", name="Club", initial_state=[rules])
    with pytest.raises(Refused, match="M_FORBIDDEN"):
        await bob.joins(room, via=alice.server)
    await bob.knocks(room, alice.server, "May I?")
    knocked = await bob.until(
        lambda view: view.room(room).membership == "knock" and view.room(room), "that he has knocked"
    )
    assert knocked.content("m.room.name") == {"name": "Club"}
    heard = await alice.sees_membership(room, bob, "knock")
    assert heard.content("m.room.member", bob.user_id)["reason"] == "May I?"
    await alice.invites(room, bob)
    await bob.is_invited(room)
    await bob.joins(room)
    await alice.hears(room, await bob.says(room, "Thank you"))


async def test_members_of_one_room_may_join_another_that_says_so(people: People, alice: Person, bob: Person) -> None:
    club = await alice.creates_room(preset="public_chat")
    allow = [{"type": "m.room_membership", "room_id": club}]
    rules = {
        "type": "m.room.join_rules",
        "state_key": "",
        "content": {"join_rule": "restricted", "allow": allow},
    }
    room = await alice.creates_room(preset="private_chat", initial_state=[rules])
    with pytest.raises(Refused, match="M_FORBIDDEN|M_UNABLE"):  # noqa: RUF043 (either is right)
        await bob.joins(room, via=alice.server)
    await bob.joins(club, via=alice.server)
    await alice.sees_membership(club, bob, "join")
    await bob.joins(room, via=alice.server)
    joined = await alice.sees_membership(room, bob, "join")
    assert joined.content("m.room.member", bob.user_id)["join_authorised_via_users_server"] == alice.user_id
    await alice.hears(room, await bob.says(room, "I am in the club"))


async def test_one_invited_by_email_is_in_the_room_once_the_address_is_bound(
    world: World, alice: Person, bob: Person
) -> None:
    """Lookup, store-invite, onbind, exchange_third_party_invite, and the verdict of everybody's authorisation rules."""
    address = f"{bob.user_id[1:].partition(':')[0]}@example.org"
    room = await alice.creates_room(preset="private_chat", name="By post")
    hers = await alice.at(world)
    assert await hers.lookup([Threepid(EMAIL, address)]) == {}
    await alice.asks(
        "POST",
        f"/rooms/{quoted(room)}/invite",
        {"medium": EMAIL, "address": address, "id_server": world.identity.name, "id_access_token": hers.api.token},
    )
    (invitation,) = [
        event for (kind, _), event in (await alice.whole_state(room)).items() if kind == "m.room.third_party_invite"
    ]
    assert address not in str(invitation)
    mail = await world.newest_message(address)
    assert "By post" in mail

    his = await bob.at(world)
    sid = await his.request_email_token(address, "secret")
    code = re.search(r"token=(\w+)", await world.newest_message(address, "submitToken"))
    assert code is not None
    await his.submit_token(EMAIL, sid, "secret", code[1])
    await his.bind(sid, "secret", bob.user_id)

    await bob.is_invited(room)
    invited = await alice.sees_membership(room, bob, "invite")
    assert invited.content("m.room.member", bob.user_id)["third_party_invite"]["signed"]["mxid"] == bob.user_id
    await bob.joins(room)
    await bob.sees(room, "m.room.name", {"name": "By post"})
    await alice.hears(room, await bob.says(room, "Got your letter"))
    assert await hers.lookup([Threepid(EMAIL, address)]) == {Threepid(EMAIL, address): bob.user_id}


async def test_one_whose_address_is_bound_already_is_invited_by_user_id(
    world: World, alice: Person, bob: Person
) -> None:
    address = f"{bob.user_id[1:].partition(':')[0]}@example.org"
    his = await bob.at(world)
    sid = await his.request_email_token(address, "secret")
    code = re.search(r"token=(\w+)", await world.newest_message(address, "submitToken"))
    assert code is not None
    await his.submit_token(EMAIL, sid, "secret", code[1])
    await his.bind(sid, "secret", bob.user_id)
    hers = await alice.at(world)
    invitation = {
        "medium": EMAIL,
        "address": address,
        "id_server": world.identity.name,
        "id_access_token": hers.api.token,
    }
    room = await alice.creates_room(preset="private_chat", invite_3pid=[invitation])
    await bob.is_invited(room)
    assert not [kind for kind, _ in await alice.whole_state(room) if kind == "m.room.third_party_invite"]
    await bob.joins(room)


async def test_a_server_vouches_for_its_users(world: World, alice: Person) -> None:
    token = await HomeserverClient(alice.api).openid_token(alice.user_id)
    assert token["matrix_server_name"] == alice.server.name
    async with httpx.AsyncClient(verify=world.trust, trust_env=False) as anybody:
        base = f"https://{alice.server.name}/_matrix/federation/v1/openid/userinfo"
        answer = await anybody.get(base, params={"access_token": token["access_token"]})
        assert answer.json() == {"sub": alice.user_id}
        refused = await anybody.get(base, params={"access_token": "made up"})
        assert refused.status_code == 401


def _device_keys(device: Person) -> Json:
    """Keys as a client would upload them, signed; always the same for one device."""
    key = SigningKey.from_seed(f"ed25519:{device.device_id}", sha256(device.device_id.encode()).digest())
    curve = encode_base64(sha256(b"curve" + device.device_id.encode()).digest())

    def signed(json: Json) -> Json:
        return sign_json(json, device.user_id, key)

    return {
        "device_keys": signed(
            {
                "user_id": device.user_id,
                "device_id": device.device_id,
                "algorithms": ["m.olm.v1.curve25519-aes-sha2", MEGOLM],
                "keys": {key.key_id: key.verify_key.base64, f"curve25519:{device.device_id}": curve},
            }
        ),
        "one_time_keys": {"signed_curve25519:AAAAAQ": signed({"key": curve})},
    }


def _bearing(person: Person) -> dict[str, str]:
    return {"Authorization": f"Bearer {person.api.token}"}
