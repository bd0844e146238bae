"""`identity-server bindings`, as operators run it."""

import json
from pathlib import Path
from subprocess import CompletedProcess, run

import pytest
from sqlalchemy import select

from identity_server.identity.invites.models import Invite
from identity_server.identity.invites.store import add_invite
from identity_server.identity.signing.keyring import load_keyring
from identity_server.identity.tables import Table
from identity_server.matrix.signing import verify_json
from identity_server.runtime.clock import SystemClock
from identity_server.runtime.database import Database
from identity_server.runtime.tokens import SystemEntropy
from identity_server.settings import Settings

ALICE, BOB = "@alice:hs.test", "@bob:hs.test"
ADDRESS = "alice@example.org"


class Operator:
    """Of a server that does not run at the moment."""

    def __init__(self, folder: Path, command: tuple[str, ...]) -> None:
        self.settings = Settings(server={"name": "is.test", "data_dir": folder})
        self.command = command
        self.config = folder / "config.toml"
        self.config.write_text(f'[server]\nname = "is.test"\ndata_dir = "{folder}"\n')

    def run(self, *arguments: str) -> CompletedProcess[str]:
        command = (*self.command, "--config", str(self.config), "bindings", *arguments)
        return run(command, env={"COLUMNS": "200"}, capture_output=True, text=True, timeout=60, check=False)

    def done(self, *arguments: str) -> str:
        ended = self.run(*arguments)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def refused(self, *arguments: str) -> str:
        ended = self.run(*arguments)
        assert ended.returncode == 1, ended.stdout
        assert "Traceback" not in ended.stderr
        return ended.stderr


@pytest.fixture
def operator(tmp_path: Path, command: tuple[str, ...]) -> Operator:
    return Operator(tmp_path, command)


def test_what_is_bound_by_hand_is_signed_shown_and_can_be_undone(operator: Operator) -> None:
    signed = json.loads(operator.done("bind", "email", "Alice@Example.org", ALICE))
    assert (signed["address"], signed["mxid"]) == (ADDRESS, ALICE)
    keyring = load_keyring("is.test", operator.settings.signing_key_file, SystemEntropy())
    verify_json(signed, "is.test", keyring.current.verify_key)
    assert f"Bound to {ALICE}" in operator.done("show", "email", ADDRESS)
    assert "not bound to that user" in operator.refused("unbind", "email", ADDRESS, BOB)
    assert operator.done("unbind", "email", ADDRESS, ALICE) == "Unbound.\n"
    assert "Bound to nobody" in operator.done("show", "email", ADDRESS)


async def test_who_is_bound_by_hand_gets_what_waited_for_the_address(operator: Operator) -> None:
    operator.done("bind", "email", "bob@example.org", BOB)
    now_ms = SystemClock().now_ms()
    invite = Invite(
        token="waits",
        medium="email",
        address=ADDRESS,
        room_id="!room:hs.test",
        sender=BOB,
        public_key="key",
        key_id="ed25519:0",
        created_ts=now_ms,
        expires_ts=now_ms + 60_000,
        claimed_ts=None,
        claimed_by=None,
        revoked_ts=None,
    )
    database = Database(operator.settings.database_url)
    async with database.transaction() as session:
        add_invite(session, invite)
    operator.done("bind", "email", ADDRESS, ALICE)
    tasks = Table.metadata.tables["tasks"]
    async with database.reading() as session:
        notices = [
            json.loads(text) for text in await session.scalars(select(tasks.c.payload).order_by(tasks.c.task_id))
        ]
    await database.close()
    assert [(notice["mxid"], [each["signed"]["token"] for each in notice["invites"]]) for notice in notices] == [
        (BOB, []),
        (ALICE, ["waits"]),
    ]


def test_bindings_move_from_one_server_to_another(operator: Operator, tmp_path: Path) -> None:
    file = tmp_path / "bindings.jsonl"
    operator.done("bind", "email", ADDRESS, ALICE)
    operator.done("bind", "msisdn", "+447700900001", BOB)
    operator.done("export", str(file))
    assert [json.loads(line) for line in file.read_text().splitlines()] == [
        {"medium": "email", "address": ADDRESS, "mxid": ALICE},
        {"medium": "msisdn", "address": "447700900001", "mxid": BOB},
    ]
    into = tmp_path / "new"
    into.mkdir()
    new = Operator(into, operator.command)
    assert "2 bindings stated, 0 left alone" in new.run("import", str(file)).stderr
    assert "0 bindings stated, 2 left alone" in new.run("import", str(file)).stderr
    assert f"Bound to {BOB}" in new.done("show", "msisdn", "447700900001")


def test_what_is_no_binding_is_named_and_binds_nobody(operator: Operator, tmp_path: Path) -> None:
    for wrong in (("pigeon", ADDRESS, ALICE), ("email", "nobody", ALICE), ("email", ADDRESS, "alice")):
        assert operator.refused("bind", *wrong)
    file = tmp_path / "bindings.jsonl"
    file.write_text('{"medium": "email", "address": "alice@example.org"}\n')
    assert "line 1" in operator.refused("import", str(file))
    assert "Nothing was ever stated" in operator.done("show", "email", ADDRESS)
