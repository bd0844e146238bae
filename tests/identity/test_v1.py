from tests.world import IdentityServer, MakeServer

V1 = "/_matrix/identity/api/v1"
PHONE = {"country": "GB", "phone_number": "07700900001", "client_secret": "secret", "send_attempt": 1}


async def test_the_v1_api_is_off(server: IdentityServer) -> None:
    answer = await server.client.post(f"{V1}/validate/msisdn/requestToken", json=PHONE)
    assert (answer.status_code, answer.json()["errcode"]) == (404, "M_UNRECOGNIZED")


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
            assert answer.json()["errcode"] in ("M_UNRECOGNIZED", "M_MISSING_PARAMS"), path
            assert server.outlet.sent[1:] == []


async def test_only_listed_addresses_may_call(make_server: MakeServer) -> None:
    async with make_server(compatibility={"v1_api": "all", "v1_callers": ["10.0.0.0/8"]}) as server:
        answer = await server.client.post(f"{V1}/validate/msisdn/requestToken", json=PHONE)
        assert (answer.status_code, answer.json()["errcode"]) == (403, "M_FORBIDDEN")


async def test_where_all_of_it_is_on_addresses_are_looked_up_as_of_old(make_server: MakeServer) -> None:
    async with make_server(compatibility={"v1_api": "all"}) as server:
        await server.bound("@alice:hs.test")
        answer = await server.client.get(f"{V1}/lookup", params={"medium": "email", "address": "Alice@example.org"})
        assert answer.json()["mxid"] == "@alice:hs.test"
        pairs = [["email", "alice@example.org"], ["email", "nobody@example.org"], ["email", "nonsense"]]
        answer = await server.client.post(f"{V1}/bulk_lookup", json={"threepids": pairs})
        assert answer.json() == {"threepids": [["email", "alice@example.org", "@alice:hs.test"]]}
        answer = await server.client.get(f"{V1}/pubkey/ed25519:0")
        assert "public_key" in answer.json()
