import orjson

from identity_server.matrix.signing import VerifyKey, verify_json
from tests.world import IdentityServer, MakeServer

V1 = "/_matrix/identity/api/v1"
PHONE = {"country": "GB", "phone_number": "07700900001", "client_secret": "secret", "send_attempt": 1}


async def test_the_v1_api_is_off_and_whatever_is_asked_of_it_is_unknown(server: IdentityServer) -> None:
    for method, path, body in (
        ("POST", "/validate/msisdn/requestToken", orjson.dumps(PHONE)),
        ("POST", "/bulk_lookup", b"["),
        ("DELETE", "/bulk_lookup", b""),
        ("GET", "", b""),
    ):
        answer = await server.client.request(method, V1 + path, content=body)
        assert (answer.status_code, answer.json()["errcode"]) == (404, "M_UNRECOGNIZED"), path


async def test_a_homeserver_validates_a_phone_number_without_a_token(make_server: MakeServer) -> None:
    async with make_server(compatibility={"v1_api": "msisdn_only"}) as server:
        answer = await server.client.post(f"{V1}/validate/msisdn/requestToken", json=PHONE)
        session = {"sid": answer.json()["sid"], "client_secret": "secret"}
        token = server.outlet.sent[-1].context["token"]
        answer = await server.client.post(f"{V1}/validate/msisdn/submitToken", json={**session, "token": token})
        assert answer.json() == {"success": True}
        answer = await server.client.get(f"{V1}/3pid/getValidated3pid", params=session)
        assert answer.json()["address"] == "447700900001"
        for path in ("/validate/email/requestToken", "/3pid/bind", "/bulk_lookup"):
            answer = await server.client.post(V1 + path, json={})
            assert (answer.status_code, answer.json()["errcode"]) == (404, "M_UNRECOGNIZED"), path
            assert server.outlet.sent[1:] == []


async def test_only_listed_addresses_may_call(make_server: MakeServer) -> None:
    async with make_server(compatibility={"v1_api": "all", "v1_callers": ["10.0.0.0/8"]}) as server:
        answer = await server.client.post(f"{V1}/validate/msisdn/requestToken", json=PHONE)
        assert (answer.status_code, answer.json()["errcode"]) == (403, "M_FORBIDDEN")


async def test_where_all_of_it_is_on_addresses_are_looked_up_as_of_old(make_server: MakeServer) -> None:
    async with make_server(compatibility={"v1_api": "all"}) as server:
        await server.bound("@alice:hs.test")
        answer = await server.client.get(f"{V1}/lookup", params={"medium": "email", "address": "Alice@example.org"})
        stated = answer.json()
        assert (stated["address"], stated["mxid"]) == ("alice@example.org", "@alice:hs.test")
        assert stated["not_before"] == stated["ts"] < stated["not_after"]
        pairs = [["email", "alice@example.org"], ["email", "nobody@example.org"], ["email", "nonsense"]]
        answer = await server.client.post(f"{V1}/bulk_lookup", json={"threepids": pairs})
        assert answer.json() == {"threepids": [["email", "alice@example.org", "@alice:hs.test"]]}
        key = (await server.client.get(f"{V1}/pubkey/ed25519:0")).json()["public_key"]
        verify_json(stated, "is.test", VerifyKey.from_base64("ed25519:0", key))


async def test_where_all_of_it_is_on_anybody_invites_in_anybodys_name(make_server: MakeServer) -> None:
    wish = {"medium": "email", "address": "bob@example.org", "room_id": "!room:hs.test", "sender": "@alice:hs.test"}
    async with make_server(compatibility={"v1_api": "all"}) as server:
        invitation = (await server.client.post(f"{V1}/store-invite", json=wish)).json()
        assert invitation["public_key"] == invitation["public_keys"][0]["public_key"]
        await server.bound("@bob:hs.test", "bob@example.org")
        ((_, told),) = await server.told()
        assert told["invites"][0]["signed"]["token"] == invitation["token"]
        answer = await server.client.post(f"{V1}/store-invite", json=wish)
        assert (answer.status_code, answer.json()["errcode"]) == (400, "M_THREEPID_IN_USE")
