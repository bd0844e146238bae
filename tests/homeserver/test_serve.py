import asyncio
import os
import signal
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from identity_server.homeserver.serve import Listening, serve_homeserver
from identity_server.matrix.signing import VerifyKey, verify_json
from identity_server.settings import HomeserverSettings, ServerSettings, Settings


def make_settings(data_dir: Path, **homeserver: Any) -> Settings:
    chosen = {"name": "localhost:8448", "port": 0, "federation_port": 0, "registration": True, **homeserver}
    return Settings(server=ServerSettings(data_dir=data_dir), homeserver=HomeserverSettings(**chosen))


async def started(settings: Settings, stop: asyncio.Event | None) -> tuple[asyncio.Task[None], Listening]:
    up: asyncio.Future[Listening] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve_homeserver(settings, stop=stop, ready=up.set_result))
    await asyncio.wait([serving, up], timeout=10, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        await serving
    return serving, up.result()


@pytest.fixture
async def listening(tmp_path: Path) -> AsyncIterator[Listening]:
    stop = asyncio.Event()
    serving, listening = await started(make_settings(tmp_path), stop)
    yield listening
    stop.set()
    await asyncio.wait_for(serving, 10)


async def register(client: httpx.AsyncClient) -> dict[str, Any]:
    body = {"username": "alice", "password": "x", "auth": {"type": "m.login.dummy"}}
    answer = await client.post("/_matrix/client/v3/register", json=body)
    login: dict[str, Any] = answer.json()
    return login


async def test_another_server_asks_over_tls_who_a_token_is_and_which_keys_are_ours(listening: Listening) -> None:
    tls = ssl.create_default_context(cafile=listening.ca_file)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{listening.client_port}") as client:
        login = await register(client)
        path = f"/_matrix/client/v3/user/{login['user_id']}/openid/request_token"
        headers = {"Authorization": f"Bearer {login['access_token']}"}
        token = (await client.post(path, headers=headers, json={})).json()["access_token"]
    for host in ("localhost", "127.0.0.1"):
        async with httpx.AsyncClient(base_url=f"https://{host}:{listening.federation_port}", verify=tls) as peer:
            told = await peer.get("/_matrix/federation/v1/openid/userinfo", params={"access_token": token})
            assert told.json() == {"sub": "@alice:localhost:8448"}
            keys = (await peer.get("/_matrix/key/v2/server")).json()
            ((key_id, key),) = keys["verify_keys"].items()
            verify_json(keys, "localhost:8448", VerifyKey.from_base64(key_id, key["key"]))


async def test_who_does_not_know_the_authority_does_not_trust_us(listening: Listening) -> None:
    async with httpx.AsyncClient(verify=ssl.create_default_context()) as stranger:
        with pytest.raises(httpx.ConnectError):
            await stranger.get(f"https://localhost:{listening.federation_port}/_matrix/key/v2/server")


async def test_the_authority_survives_a_restart_and_its_key_is_secret(tmp_path: Path) -> None:
    authorities = []
    for _ in range(2):
        stop = asyncio.Event()
        serving, listening = await started(make_settings(tmp_path), stop)
        assert listening.ca_file is not None
        authorities.append(listening.ca_file.read_bytes())
        stop.set()
        await asyncio.wait_for(serving, 10)
    assert authorities[0] == authorities[1]
    assert (tmp_path / "homeserver" / "ca.key").stat().st_mode & 0o777 == 0o600


async def test_a_certificate_of_ones_own_is_used(tmp_path: Path) -> None:
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost")
    leaf.private_key_pem.write_to_path(tmp_path / "tls.key")
    leaf.cert_chain_pems[0].write_to_path(tmp_path / "tls.pem")
    stop = asyncio.Event()
    settings = make_settings(tmp_path, tls_certificate=tmp_path / "tls.pem", tls_key=tmp_path / "tls.key")
    serving, listening = await started(settings, stop)
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    async with httpx.AsyncClient(verify=tls) as peer:
        answer = await peer.get(f"https://localhost:{listening.federation_port}/_matrix/federation/v1/version")
    assert answer.status_code == 200
    assert listening.ca_file is None
    stop.set()
    await asyncio.wait_for(serving, 10)


async def test_a_signal_ends_it_after_what_is_under_way(tmp_path: Path) -> None:
    serving, listening = await started(make_settings(tmp_path), stop=None)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{listening.client_port}") as client:
        under_way = asyncio.create_task(register(client))
        await asyncio.sleep(0.02)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(serving, 10)
        assert (await under_way)["user_id"] == "@alice:localhost:8448"


async def test_whoever_waits_in_sync_is_answered_when_it_stops(tmp_path: Path) -> None:
    stop = asyncio.Event()
    serving, listening = await started(make_settings(tmp_path), stop)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{listening.client_port}", timeout=30) as client:
        client.headers["Authorization"] = f"Bearer {(await register(client))['access_token']}"
        since = (await client.get("/_matrix/client/v3/sync")).json()["next_batch"]
        waiting = asyncio.create_task(
            client.get("/_matrix/client/v3/sync", params={"since": since, "timeout": "30000"})
        )
        await asyncio.sleep(0.3)
        assert not waiting.done()
        stop.set()
        answer = await asyncio.wait_for(waiting, 3)
        assert (answer.status_code, answer.json()["next_batch"]) == (200, since)
        await asyncio.wait_for(serving, 3)


async def test_cancelling_ends_it_as_gently(tmp_path: Path) -> None:
    serving, listening = await started(make_settings(tmp_path), asyncio.Event())
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{listening.client_port}") as client:
        under_way = asyncio.create_task(register(client))
        await asyncio.sleep(0.02)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert (await under_way)["user_id"] == "@alice:localhost:8448"


async def test_a_port_that_is_taken_is_named(tmp_path: Path, listening: Listening) -> None:
    settings = make_settings(tmp_path / "second", port=listening.client_port)
    with pytest.raises(OSError, match=f"port {listening.client_port}"):
        await serve_homeserver(settings, stop=asyncio.Event())
