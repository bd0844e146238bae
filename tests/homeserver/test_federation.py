import stat
from typing import Any

from httpx import AsyncClient

from identity_server.homeserver.keys import load_server_keys
from identity_server.matrix.server_keys import publish
from identity_server.matrix.signing import VerifyKey, verify_json
from identity_server.runtime.clock import FakeClock
from identity_server.runtime.key_files import generate_key
from identity_server.runtime.tokens import SystemEntropy
from identity_server.settings import Settings

KEYS = "/_matrix/key/v2/server"


def check(published: dict[str, Any], key_id: str) -> None:
    verify_json(published, "hs.test", VerifyKey.from_base64(key_id, published["verify_keys"][key_id]["key"]))


async def test_the_keys_are_published_signed_by_themselves(client: AsyncClient, clock: FakeClock) -> None:
    published = (await client.get(KEYS)).json()
    (key_id,) = published["verify_keys"]
    check(published, key_id)
    assert published["server_name"] == "hs.test"
    assert published["old_verify_keys"] == {}
    assert 3_600_000 < published["valid_until_ts"] - clock.now_ms() <= 7 * 86_400_000
    assert (await client.get(f"{KEYS}/{key_id}")).json() == published


async def test_the_key_is_its_owners_and_survives_a_restart(settings: Settings, state: dict[str, Any]) -> None:
    file = settings.homeserver_data_dir / "signing.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert load_server_keys("hs.test", file, SystemEntropy()) == state["server_keys"]


async def test_a_second_key_stands_beside_the_first_and_both_sign(settings: Settings, state: dict[str, Any]) -> None:
    file = settings.homeserver_data_dir / "signing.key"
    generate_key(file, SystemEntropy(), version="b_2")
    keys = load_server_keys("hs.test", file, SystemEntropy())
    published = publish(keys.server_name, keys.keys, now_ms=1)
    assert len(published["verify_keys"]) == 2
    for key_id in published["verify_keys"]:
        check(published, key_id)


async def test_the_version_is_told(client: AsyncClient) -> None:
    answer = await client.get("/_matrix/federation/v1/version")
    assert set(answer.json()["server"]) == {"name", "version"}
