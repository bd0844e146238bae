"""The long-term keys: how they are published, kept in their file, and replaced."""

import base64
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from identity_server.cli.main import app
from identity_server.identity.signing.keyring import load_keyring
from identity_server.matrix.signing import SigningKey, VerifyKey, decode_key, verify_json
from identity_server.runtime.key_files import BadKeyFile, generate_key, read_keys
from identity_server.runtime.tokens import FakeEntropy
from tests.world import IdentityServer, MakeServer

V2 = "/_matrix/identity/v2"
# Its public key holds both characters that the two alphabets of base64 write differently.
SEED = bytes(31) + b"\x01"


def key_file(server: IdentityServer) -> Path:
    return server.settings.signing_key_file


async def public_key(server: IdentityServer, key_id: str) -> str:
    answer = await server.client.get(f"{V2}/pubkey/{key_id}")
    assert answer.status_code == 200, answer.text
    return str(answer.json()["public_key"])


async def is_valid(server: IdentityServer, key: str, kind: str = "") -> bool:
    answer = await server.client.get(f"{V2}/pubkey{kind}/isvalid", params={"public_key": key})
    assert answer.status_code == 200, answer.text
    return bool(answer.json()["valid"])


# What is published


async def test_a_key_is_published_by_its_id(server: IdentityServer) -> None:
    (key,) = read_keys(key_file(server))
    assert await public_key(server, "ed25519:0") == key.verify_key.base64
    # Some clients encode the colon.
    assert await public_key(server, "ed25519%3A0") == key.verify_key.base64


@pytest.mark.parametrize("key_id", ["ed25519:1", "ed25519", "0", "curve25519:0", "ed25519:0%20", "%00"])
async def test_a_key_that_we_do_not_have_is_not_found(server: IdentityServer, key_id: str) -> None:
    answer = await server.client.get(f"{V2}/pubkey/{key_id}")
    assert (answer.status_code, answer.json()["errcode"]) == (404, "M_NOT_FOUND")


async def test_our_key_is_valid_in_both_alphabets_of_base64(make_server: MakeServer, tmp_path: Path) -> None:
    key = SigningKey.from_seed("ed25519:0", SEED)
    (tmp_path / "signing.key").write_text(f"ed25519 0 {key.seed_base64}\n")
    standard = key.verify_key.base64
    url_safe = standard.replace("+", "-").replace("/", "_")
    assert "+" in standard
    assert "/" in standard
    async with make_server() as server:
        assert await public_key(server, "ed25519:0") == standard
        for spelling in (standard, url_safe, f"{standard}=", f"{url_safe}="):
            assert await is_valid(server, spelling), spelling
        for no_spelling in (f"!!{standard}", f"{standard}====", f"{standard}=\n", f" {standard}"):
            assert not await is_valid(server, no_spelling), no_spelling


@pytest.mark.parametrize("key", ["", "x", "no key", "%00", "ß", "A" * 43, "A" * 44, "A" * 10_000])
async def test_what_is_no_key_of_ours_is_not_valid(server: IdentityServer, key: str) -> None:
    assert not await is_valid(server, key)


async def test_whether_no_key_is_valid_is_no_question(server: IdentityServer) -> None:
    answer = await server.client.get(f"{V2}/pubkey/isvalid")
    assert (answer.status_code, answer.json()["errcode"]) == (400, "M_MISSING_PARAMS")


async def test_a_long_term_key_is_no_ephemeral_one(server: IdentityServer) -> None:
    assert not await is_valid(server, await public_key(server, "ed25519:0"), "/ephemeral")


# Roll-over


async def test_after_a_roll_over_the_new_key_signs_and_the_old_one_still_verifies(make_server: MakeServer) -> None:
    async with make_server() as server:
        headers = await server.account()
        session = await server.proven(headers)
        before = (
            await server.client.post(f"{V2}/3pid/bind", json={**session, "mxid": "@alice:hs.test"}, headers=headers)
        ).json()
        generate_key(key_file(server), FakeEntropy(1))
    async with make_server() as server:
        after = (
            await server.client.post(f"{V2}/3pid/bind", json={**session, "mxid": "@alice:hs.test"}, headers=headers)
        ).json()
        keys = {key_id: await public_key(server, key_id) for key_id in ("ed25519:0", "ed25519:1")}
        for key in keys.values():
            assert await is_valid(server, key)
    assert [list(signed["signatures"]["is.test"]) for signed in (before, after)] == [["ed25519:0"], ["ed25519:1"]]
    verify_json(before, "is.test", VerifyKey.from_base64("ed25519:0", keys["ed25519:0"]))
    verify_json(after, "is.test", VerifyKey.from_base64("ed25519:1", keys["ed25519:1"]))


async def test_a_removed_key_is_neither_found_nor_valid(make_server: MakeServer, tmp_path: Path) -> None:
    file = tmp_path / "signing.key"
    removed, kept = (generate_key(file, FakeEntropy(seed)) for seed in (1, 2))
    file.write_text(file.read_text().splitlines()[1] + "\n")
    async with make_server() as server:
        assert (await server.client.get(f"{V2}/pubkey/ed25519:0")).status_code == 404
        assert not await is_valid(server, removed.verify_key.base64)
        assert await is_valid(server, kept.verify_key.base64)


# The file


def test_the_first_start_makes_a_key_that_only_its_owner_reads(tmp_path: Path) -> None:
    file = tmp_path / "data" / "signing.key"
    umask = os.umask(0)
    try:
        keyring = load_keyring("is.test", file, FakeEntropy())
    finally:
        os.umask(umask)
    assert keyring.current.key_id == "ed25519:0"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert load_keyring("is.test", file, FakeEntropy(1)).current.seed_base64 == keyring.current.seed_base64
    assert [entry.name for entry in file.parent.iterdir()] == ["signing.key"]


def test_a_file_made_by_other_software_is_read(tmp_path: Path) -> None:
    """The format is that of signedjson; versions need not be numbers."""
    file = tmp_path / "signing.key"
    seeds = [base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2)]
    file.write_text(f"ed25519 a_bCdE {seeds[0].rstrip('=')}\n\n  ed25519\t7 {seeds[1]}  \n")
    assert [key.key_id for key in read_keys(file)] == ["ed25519:a_bCdE", "ed25519:7"]
    assert generate_key(file, FakeEntropy()).key_id == "ed25519:8"
    assert [decode_key(key.seed_base64)[:1] for key in read_keys(file)[:2]] == [b"\x01", b"\x02"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "holds no key"),
        (b"\n\n", "holds no key"),
        (b"hello", "has a line that is no key"),
        (b"rsa 0 " + b"A" * 43, "has a line that is no key"),
        (b"ed25519 0", "has a line that is no key"),
        (b"ed25519 0 AAAA", "holds a malformed key"),
        (b"ed25519 0 !", "holds a malformed key"),
        (b"\xff\xfe\x00", "is no text"),
    ],
)
async def test_a_malformed_key_file_is_a_clear_error_and_left_alone(
    content: bytes, reason: str, tmp_path: Path
) -> None:
    file = tmp_path / "signing.key"
    file.write_bytes(content)
    with pytest.raises(BadKeyFile, match=f"signing.key {reason}"):
        load_keyring("is.test", file, FakeEntropy())
    assert file.read_bytes() == content


# The commands


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "identity-server.toml"
    file.write_text(f'[server]\nname = "is.test"\ndata_dir = "{tmp_path / "data"}"\n')
    return file


def test_the_commands_add_show_and_forget_keys(config: Path, tmp_path: Path) -> None:
    file = tmp_path / "data" / "signing.key"

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["--config", str(config), "keys", *arguments])
        return done.exit_code, done.output

    generated = [run("generate") for _ in range(2)]
    public_keys = [key.verify_key.base64 for key in read_keys(file)]
    assert generated == [(0, f"ed25519:{n} {public_key}\n") for n, public_key in enumerate(public_keys)]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    code, listed = run("list")
    assert code == 0
    assert [line.split()[:2] for line in listed.splitlines()] == [
        ["ed25519:0", public_keys[0]],
        ["ed25519:1", public_keys[1]],
    ]
    assert [line.endswith(" signs") for line in listed.splitlines()] == [False, True]
    assert run("remove", "ed25519:0") == (0, "")
    assert [key.key_id for key in read_keys(file)] == ["ed25519:1"]
    assert run("remove", "ed25519:0") == (1, "error: there is no key ed25519:0\n")
    assert run("remove", "ed25519:1") == (1, "error: this is the only key: generate another first\n")
    # A removed key's ID is not given to another key while a newer one is there.
    assert run("generate")[1].startswith("ed25519:2 ")
    assert not [key.seed_base64 for key in read_keys(file) if key.seed_base64 in listed]


@pytest.mark.parametrize("command", [["keys", "list"], ["keys", "generate"], ["keys", "remove", "ed25519:0"]])
def test_a_command_says_in_one_line_what_is_wrong_with_the_file(
    command: list[str], config: Path, tmp_path: Path
) -> None:
    file = tmp_path / "data" / "signing.key"
    file.parent.mkdir()
    file.write_text("hello\n")
    done = CliRunner().invoke(app, ["--config", str(config), *command])
    assert (done.exit_code, done.stderr) == (1, f"error: {file} has a line that is no key\n")
    assert file.read_text() == "hello\n"


def test_a_server_with_a_malformed_key_file_does_not_start_and_says_why(config: Path, tmp_path: Path) -> None:
    file = tmp_path / "data" / "signing.key"
    file.parent.mkdir()
    file.write_text("hello\n")
    done = subprocess.run(
        [sys.executable, "-m", "identity_server.cli", "--config", config, "serve"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (1, f"error: {file} has a line that is no key\n")
