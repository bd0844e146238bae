"""Whose keys are whose: published, asked for, remembered, told to others."""

from urllib.parse import quote

from canonicaljson import encode_canonical_json
from httpx import AsyncClient

from identity_server.homeserver.keys import load_server_keys
from identity_server.matrix.origin_auth import authorization
from identity_server.matrix.signing import VerifyKey, verify_json
from identity_server.runtime.tokens import SystemEntropy
from tests.homeserver.federation.conftest import MakeHomeserver
from tests.homeserver.federation.servers import Authority, Homeserver

QUERY = "/_matrix/key/v2/query"


async def test_a_notary_signs_what_another_server_says_of_its_keys_and_remembers_it(
    here: Homeserver, there: Homeserver
) -> None:
    own = (await here.client.get("/_matrix/key/v2/server")).json()
    for _ in range(2):
        told = (await here.client.get(f"{QUERY}/{quote(there.name)}")).json()
        (answer,) = told["server_keys"]
        assert answer["server_name"] == there.name
        for server_name, published in ((there.name, answer), (here.name, own)):
            (key_id,) = answer["signatures"][server_name]
            verify_json(answer, server_name, VerifyKey.from_base64(key_id, published["verify_keys"][key_id]["key"]))
        await there.stop()  # and asked again, it is as before
    criteria = {there.name: {"ed25519:unknown": {"minimum_valid_until_ts": 1}}, here.name: {}, "nobody.invalid": {}}
    several = (await here.client.post(QUERY, json={"server_keys": criteria})).json()
    assert {answer["server_name"] for answer in several["server_keys"]} == {here.name, there.name}
    assert (await here.client.post(QUERY, json={"server_keys": {}})).json() == {"server_keys": []}
    assert (await here.client.post(QUERY, json={"server_keys": {"a": 1}})).status_code == 400


async def test_a_key_that_signs_no_more_is_still_published(here: Homeserver) -> None:
    file = here.settings.homeserver_data_dir / "signing.key"
    retired = load_server_keys(here.name, file, SystemEntropy()).keys[0].verify_key
    file.with_suffix(".old").write_text(f"ed25519 gone {retired.base64} 1234\n")
    keys = load_server_keys(here.name, file, SystemEntropy())
    assert keys.old_keys[0].expired_ts == 1234
    assert keys.verify_key("ed25519:gone").base64 == retired.base64
    await here.stop()
    await here.start()
    answer = await here.client.get("/_matrix/key/v2/server")
    published = answer.json()
    # As it was signed: some check it as it comes.
    assert answer.content == encode_canonical_json(published)
    assert published["old_verify_keys"] == {"ed25519:gone": {"key": retired.base64, "expired_ts": 1234}}


async def test_a_request_counts_only_if_its_server_signed_it_for_us(
    here: Homeserver, there: Homeserver, authority: Authority
) -> None:
    path = "/_matrix/federation/v1/event/$nothing"
    key = there.state["server_keys"].keys[0]

    async def answered(client: AsyncClient, **changed: str) -> tuple[int, str]:
        said = {"origin": there.name, "destination": here.name, "method": "GET", "uri": path, **changed}
        answer = await client.get(path, headers={"Authorization": authorization(key, **said)})
        return answer.status_code, answer.json()["errcode"]

    assert await answered(here.client) == (404, "M_NOT_FOUND")
    assert await answered(here.client, destination=there.name) == (401, "M_UNAUTHORIZED")
    assert await answered(here.client, origin="nobody.invalid") == (401, "M_UNAUTHORIZED")
    assert await answered(here.client, origin="localhost:http") == (400, "M_UNAUTHORIZED")
    assert await answered(here.client, uri=f"{path}?more") == (401, "M_UNAUTHORIZED")
    assert await answered(here.client, method="PUT") == (401, "M_UNAUTHORIZED")
    assert (await here.client.get(path)).status_code == 401
    assert (await here.client.get(path, headers={"Authorization": "X-Matrix nonsense"})).status_code == 401


async def test_a_request_that_is_not_canonical_is_its_servers_and_is_refused_for_what_it_says(
    here: Homeserver, there: Homeserver
) -> None:
    from canonicaljson import encode_canonical_json
    from signedjson.sign import sign_json

    key = there.state["server_keys"].keys[0]
    deep: list[object] = []
    for _ in range(400):
        deep = [deep]
    pdu = {"room_id": "!a", "depth": 1.5, "big": 2**70, "content": {"deep": deep}}
    path, content = "/_matrix/federation/v1/send/1", {"pdus": [pdu]}
    signed = {"method": "PUT", "uri": path, "origin": there.name, "destination": here.name, "content": content}
    signing = key.key
    signing.alg, signing.version = key.key_id.split(":")
    signature = sign_json(signed, there.name, signing)["signatures"][there.name][key.key_id]
    header = f'X-Matrix origin="{there.name}",destination="{here.name}",key="{key.key_id}",sig="{signature}"'
    answer = await here.client.put(path, content=encode_canonical_json(content), headers={"Authorization": header})
    assert (answer.status_code, answer.json()) == (200, {"pdus": {}})


async def test_events_of_a_server_that_is_gone_count_if_a_trusted_notary_knows_its_keys(
    make_homeserver: MakeHomeserver,
) -> None:
    here, gone, late = [await make_homeserver() for _ in range(3)]
    alice, bob, carol = await here.person("alice"), await gone.person("bob"), await late.person("carol")
    room_id = await alice.creates(preset="public_chat")
    await bob.joins(room_id, here.name)
    await gone.stop()
    trusting = late.settings.federation.model_copy(update={"trusted_key_servers": (here.name,)})
    await late.stop()
    late.settings = late.settings.model_copy(update={"federation": trusting})
    await late.start()
    await carol.joins(room_id, here.name)
    assert await carol.state(room_id) == await alice.state(room_id)
    assert ("m.room.member", bob.user_id) in await carol.state(room_id)
