"""matrix-nio, the library of many bots and bridges: whole stories, the answers checked by its own schemas."""

import io
from typing import Any

import nio

from tests.interop.nio_client import (
    BY_NIO,
    PASSWORD,
    Enter,
    closing,
    got,
    in_a_room,
    meet,
    raw_event,
    trust,
)
from tests.interop.people import numbers
from tests.interop.servers import Homeserver

pytestmark = BY_NIO

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c63f8cfc0f01f0005000201"
    "6fcd9a5f0000000049454e44ae426082"
)
ENCRYPTION = {"type": "m.room.encryption", "content": {"algorithm": "m.megolm.v1.aes-sha2"}}


async def test_one_registers_logs_in_out_and_in_again(server: Homeserver, enter: Enter) -> None:
    alice = await enter("alice", server)
    assert alice.user_id.endswith(f":{server.name}")
    who = got(nio.WhoamiResponse, await alice.whoami())
    assert (who.user_id, who.device_id) == (alice.user_id, alice.device_id)
    flows = got(nio.LoginInfoResponse, await alice.login_info()).flows
    assert "m.login.password" in flows
    taken = await nio_register(server, alice.user_id[1:].partition(":")[0])
    assert taken.status_code == "M_USER_IN_USE"
    async with closing(nio.AsyncClient(server.url, alice.user_id)) as other:
        wrong = await other.login("wrong")
        assert isinstance(wrong, nio.LoginError)
        assert wrong.status_code == "M_FORBIDDEN"
        got(nio.LoginResponse, await other.login(PASSWORD))
        got(nio.LogoutResponse, await other.logout())
    got(nio.LogoutResponse, await alice.logout(all_devices=True))
    assert not alice.logged_in


async def nio_register(server: Homeserver, username: str) -> Any:
    async with closing(nio.AsyncClient(server.url)) as nobody:
        return await nobody.register(username, PASSWORD)


async def test_two_people_talk_in_a_room_and_page_back_through_it(server: Homeserver, enter: Enter) -> None:
    alice, bob = await enter("alice", server), await enter("bob", server)
    room_id = await in_a_room(alice, bob)
    room = bob.rooms[room_id]
    assert (room.name, room.topic, room.member_count) == ("The shed", "Tools", 2)
    said = [await alice.says(room_id, f"Word {number}") for number in range(25)]
    assert (await bob.hears(room_id, said[-1])).body == "Word 24"
    answer = await bob.says(room_id, "Well")
    await alice.hears(room_id, answer)

    bodies: list[str] = []
    start = ""
    for _ in range(10):
        page = got(nio.RoomMessagesResponse, await bob.room_messages(room_id, start, limit=10))
        assert len(page.chunk) <= 10
        bodies += [event.body for event in page.chunk if isinstance(event, nio.RoomMessageText)]
        if not page.end:
            break
        start = page.end
    assert bodies == ["Well", *(f"Word {number}" for number in reversed(range(25)))]

    context = got(nio.RoomContextResponse, await bob.room_context(room_id, said[10], limit=4))
    assert [event.body for event in context.events_before] == ["Word 9", "Word 8"]
    assert [event.body for event in context.events_after] == ["Word 11", "Word 12"]
    event = got(nio.RoomGetEventResponse, await bob.room_get_event(room_id, said[3])).event
    assert event.body == "Word 3"
    members = got(nio.JoinedMembersResponse, await bob.joined_members(room_id)).members
    assert {member.user_id for member in members} == {alice.user_id, bob.user_id}
    assert got(nio.JoinedRoomsResponse, await bob.joined_rooms()).rooms == [room_id]


async def test_a_message_is_taken_back_with_its_reason(server: Homeserver, enter: Enter) -> None:
    alice, bob = await enter("alice", server), await enter("bob", server)
    room_id = await in_a_room(alice, bob)
    slip = await alice.says(room_id, "Oh no")
    await bob.hears(room_id, slip)
    got(nio.RoomRedactResponse, await alice.room_redact(room_id, slip, "slip"))
    await bob.until(
        lambda: [event for _, event in bob.heard if isinstance(event, nio.RedactionEvent) and event.redacts == slip],
        "the redaction",
    )
    left = got(nio.RoomGetEventResponse, await bob.room_get_event(room_id, slip)).event
    assert isinstance(left, nio.RedactedEvent)
    assert (left.redacter, left.reason) == (alice.user_id, "slip")


async def test_typing_and_reading_are_seen(server: Homeserver, enter: Enter) -> None:
    alice, bob = await enter("alice", server), await enter("bob", server)
    room_id = await in_a_room(alice, bob)
    got(nio.RoomTypingResponse, await alice.room_typing(room_id, True, timeout=20_000))
    await bob.until(lambda: bob.typing.get(room_id) == [alice.user_id], "typing")
    got(nio.RoomTypingResponse, await alice.room_typing(room_id, False))
    await bob.until(lambda: bob.typing.get(room_id) == [], "no typing")
    said = await alice.says(room_id, "Read me")
    await bob.hears(room_id, said)
    assert bob.rooms[room_id].unread_notifications == 1
    got(nio.RoomReadMarkersResponse, await bob.room_read_markers(room_id, said, said))
    await alice.until(
        lambda: [r for r in alice.receipts if (r.event_id, r.user_id) == (said, bob.user_id)], "a receipt"
    )
    await bob.until(lambda: bob.rooms[room_id].unread_notifications == 0, "nothing unread")
    await bob.until(lambda: bob.rooms[room_id].fully_read_marker == said, "the marker")


async def test_devices_are_named_and_taken_away_with_the_password(server: Homeserver, enter: Enter) -> None:
    alice = await enter("alice", server)
    phone = await enter("alice", server, again=alice)
    got(nio.UpdateDeviceResponse, await alice.update_device(phone.device_id, {"display_name": "Phone"}))
    devices = got(nio.DevicesResponse, await alice.devices()).devices
    assert {device.id: device.display_name for device in devices} == {
        alice.device_id: "alice's device",
        phone.device_id: "Phone",
    }
    challenge = got(nio.DeleteDevicesAuthResponse, await alice.delete_devices([phone.device_id]))
    assert ["m.login.password"] in [flow["stages"] for flow in challenge.flows]
    identifier = {"type": "m.id.user", "user": alice.user_id}
    auth = {
        "type": "m.login.password",
        "session": challenge.session,
        "identifier": identifier,
        "password": PASSWORD,
    }
    got(nio.DeleteDevicesResponse, await alice.delete_devices([phone.device_id], auth))
    gone = await phone.whoami()
    assert isinstance(gone, nio.WhoamiError)
    assert gone.status_code == "M_UNKNOWN_TOKEN"


async def test_a_profile_is_set_and_shows_in_rooms(server: Homeserver, enter: Enter) -> None:
    alice, bob = await enter("alice", server), await enter("bob", server)
    room_id = await in_a_room(alice, bob)
    got(nio.ProfileSetDisplayNameResponse, await alice.set_displayname("Alice Liddell"))
    got(nio.ProfileSetAvatarResponse, await alice.set_avatar("mxc://test/cat"))
    profile = got(nio.ProfileGetResponse, await bob.get_profile(alice.user_id))
    assert (profile.displayname, profile.avatar_url) == ("Alice Liddell", "mxc://test/cat")
    await bob.until(lambda: bob.rooms[room_id].user_name(alice.user_id) == "Alice Liddell", "her name")
    await bob.until(lambda: bob.rooms[room_id].avatar_url(alice.user_id) == "mxc://test/cat", "her picture")
    presence = got(nio.PresenceGetResponse, await bob.get_presence(alice.user_id))
    assert presence.presence in ("online", "offline", "unavailable")


async def test_a_file_is_uploaded_downloaded_and_thumbnailed(server: Homeserver, enter: Enter) -> None:
    alice, bob = await enter("alice", server), await enter("bob", server)
    config = got(nio.ContentRepositoryConfigResponse, await alice.content_repository_config())
    assert config.upload_size > 1000
    answer, _ = await alice.upload(io.BytesIO(PIXEL), "image/png", "pixel.png", filesize=len(PIXEL))
    uri = got(nio.UploadResponse, answer).content_uri
    downloaded = got(nio.MemoryDownloadResponse, await bob.download(uri))
    assert (downloaded.body, downloaded.content_type, downloaded.filename) == (PIXEL, "image/png", "pixel.png")
    server_name, _, media_id = uri.removeprefix("mxc://").partition("/")
    got(nio.ThumbnailResponse, await bob.thumbnail(server_name, media_id, 32, 32))

    hidden, keys = await alice.upload(
        io.BytesIO(b"secret plans"), "text/plain", "plans.txt", encrypt=True, filesize=len(b"secret plans")
    )
    blob = got(nio.MemoryDownloadResponse, await bob.download(got(nio.UploadResponse, hidden).content_uri)).body
    assert blob != b"secret plans"
    plain = nio.crypto.decrypt_attachment(blob, keys["key"]["k"], keys["hashes"]["sha256"], keys["iv"])
    assert plain == b"secret plans"


async def test_a_room_has_an_alias_is_listed_and_upgraded(server: Homeserver, enter: Enter) -> None:
    alice, bob = await enter("alice", server), await enter("bob", server)
    local = f"library-{next(numbers):x}"
    created = await alice.room_create(
        visibility=nio.RoomVisibility.public,
        alias=local,
        name=local,
        preset=nio.RoomPreset.public_chat,
        room_version="10",
    )
    room_id = got(nio.RoomCreateResponse, created).room_id
    resolved = got(nio.RoomResolveAliasResponse, await bob.room_resolve_alias(f"#{local}:{server.name}"))
    assert (resolved.room_id, server.name in resolved.servers) == (room_id, True)
    listed = got(nio.responses.PublicRoomsResponse, await bob.list_public_rooms())
    assert room_id in [room.room_id for room in listed.public_rooms]
    assert got(nio.JoinResponse, await bob.join(f"#{local}:{server.name}")).room_id == room_id
    got(nio.RoomPutAliasResponse, await alice.room_put_alias(f"#{local}-2:{server.name}", room_id))
    got(nio.RoomDeleteAliasResponse, await alice.room_delete_alias(f"#{local}-2:{server.name}"))
    gone = await bob.room_resolve_alias(f"#{local}-2:{server.name}")
    assert isinstance(gone, nio.RoomResolveAliasError)
    assert gone.status_code == "M_NOT_FOUND"
    await alice.turn()
    upgraded = got(nio.responses.RoomUpgradeResponse, await alice.room_upgrade(room_id, "11"))
    assert upgraded.room_id != room_id


async def test_who_is_kicked_banned_or_has_left_is_out(server: Homeserver, enter: Enter) -> None:
    alice, bob = await enter("alice", server), await enter("bob", server)
    room_id = await in_a_room(alice, bob, preset=nio.RoomPreset.public_chat)
    got(nio.RoomKickResponse, await alice.room_kick(room_id, bob.user_id, "Out"))
    await bob.until(lambda: room_id in bob.left, "being kicked")
    got(nio.JoinResponse, await bob.join(room_id))
    got(nio.RoomBanResponse, await alice.room_ban(room_id, bob.user_id, "And stay out"))
    refused = await bob.join(room_id)
    assert isinstance(refused, nio.JoinError)
    assert refused.status_code in ("M_FORBIDDEN", "M_BAD_STATE")
    got(nio.RoomUnbanResponse, await alice.room_unban(room_id, bob.user_id))
    got(nio.JoinResponse, await bob.join(room_id))
    got(nio.RoomLeaveResponse, await bob.room_leave(room_id))
    got(nio.RoomForgetResponse, await bob.room_forget(room_id))
    state = await bob.room_get_state(room_id)
    assert isinstance(state, nio.RoomGetStateError)


async def test_people_who_compared_emoji_read_each_others_encrypted_messages(server: Homeserver, enter: Enter) -> None:
    alice, bob = await enter("alice", server), await enter("bob", server)
    room_id = await in_a_room(alice, bob, initial_state=[ENCRYPTION])
    await meet(alice, bob)
    for speaker, listener in ((alice, bob), (bob, alice)):
        # It would raise if a device in the room were not verified.
        event_id = await speaker.says(room_id, f"Psst, says {speaker.user_id}")
        event = await listener.hears(room_id, event_id)
        assert isinstance(event, nio.RoomMessageText), event
        assert (event.body, event.decrypted, event.verified) == (f"Psst, says {speaker.user_id}", True, True)
        wire = await raw_event(listener, room_id, event_id)
        assert (wire["type"], wire["content"]["algorithm"]) == ("m.room.encrypted", "m.megolm.v1.aes-sha2")


async def test_a_device_that_comes_later_is_sent_the_keys_of_what_is_said_then(
    server: Homeserver, enter: Enter
) -> None:
    alice, bob = await enter("alice", server), await enter("bob", server)
    room_id = await in_a_room(alice, bob, initial_state=[ENCRYPTION])
    trust(alice, bob)
    first = await alice.says(room_id, "Before")
    assert isinstance(await bob.hears(room_id, first), nio.RoomMessageText)
    phone = await enter("bob", server, again=bob)
    await alice.until(
        lambda: [
            device for device in alice.device_store.active_user_devices(bob.user_id) if device.id == phone.device_id
        ],
        "his new device",
    )
    trust(alice, bob)
    later = await alice.says(room_id, "After")
    event = await phone.hears(room_id, later)
    assert isinstance(event, nio.RoomMessageText), event
    assert event.body == "After"
