from tests.homeserver.sync.conftest import Person, Syncing


async def test_account_data_is_kept_for_all_of_a_users_clients(alice: Person, bob: Person) -> None:
    room_id = await alice.create_room()
    client = Syncing(alice)
    await client.sync()
    own = f"/user/{alice.user_id}"
    assert (await alice.ask("GET", f"{own}/account_data/org.example.a")).status_code == 404
    await alice.do("PUT", f"{own}/account_data/org.example.a", {"a": "\0é"})
    await alice.do("PUT", f"{own}/rooms/{room_id}/account_data/org.example.b", {"b": [1]})
    assert await alice.do("GET", f"{own}/account_data/org.example.a") == {"a": "\0é"}
    assert await alice.do("GET", f"{own}/rooms/{room_id}/account_data/org.example.b") == {"b": [1]}
    answer = await client.sync()
    assert answer["account_data"]["events"] == [{"type": "org.example.a", "content": {"a": "\0é"}}]
    of_room = answer["rooms"]["join"][room_id]
    assert of_room["account_data"]["events"] == [{"type": "org.example.b", "content": {"b": [1]}}]
    assert of_room["timeline"]["events"] == []
    assert "account_data" not in await client.sync()
    first = await Syncing(alice).sync()
    assert {event["type"] for event in first["account_data"]["events"]} == {"org.example.a", "m.push_rules"}
    assert (await bob.ask("GET", f"{own}/account_data/org.example.a")).status_code == 403
    assert (await bob.ask("PUT", f"{own}/account_data/org.example.a", {})).status_code == 403


async def test_what_the_server_manages_is_read_only(alice: Person) -> None:
    room_id = await alice.create_room()
    for where in (f"/user/{alice.user_id}", f"/user/{alice.user_id}/rooms/{room_id}"):
        for type_ in ("m.fully_read", "m.push_rules"):
            answer = await alice.ask("PUT", f"{where}/account_data/{type_}", {})
            assert (answer.status_code, answer.json()["errcode"]) == (405, "M_BAD_JSON")
            assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
    assert "global" in await alice.do("GET", f"/user/{alice.user_id}/account_data/m.push_rules")
    nowhere = await alice.ask("PUT", f"/user/{alice.user_id}/rooms/nowhere/account_data/a", {})
    assert (nowhere.status_code, nowhere.json()["errcode"]) == (400, "M_INVALID_PARAM")
    no_object = await alice.ask("PUT", f"/user/{alice.user_id}/account_data/a", [])
    assert (no_object.status_code, no_object.json()["errcode"]) == (400, "M_BAD_JSON")


async def test_tags_are_put_on_rooms_and_taken_off(alice: Person) -> None:
    room_id = await alice.create_room()
    client = Syncing(alice)
    await client.sync()
    tags = f"/user/{alice.user_id}/rooms/{room_id}/tags"
    assert await alice.do("GET", tags) == {"tags": {}}
    await alice.do("PUT", f"{tags}/m.favourite", {"order": 0.5})
    await alice.do("PUT", f"{tags}/u.Work", {})
    await alice.do("PUT", f"{tags}/u.Gone", {})
    await alice.do("DELETE", f"{tags}/u.Gone")
    expected = {"m.favourite": {"order": 0.5}, "u.Work": {}}
    assert await alice.do("GET", tags) == {"tags": expected}
    room = await client.room(room_id)
    assert room["account_data"]["events"] == [{"type": "m.tag", "content": {"tags": expected}}]
    assert (await alice.ask("PUT", f"{tags}/{'x' * 256}", {})).status_code == 400
    assert (await alice.ask("PUT", f"{tags}/u.a", {"order": "first"})).status_code == 400
