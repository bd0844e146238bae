"""`identity-server peers`, as operators run it, against two real servers."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
from typer.testing import CliRunner

from identity_server.cli import main
from identity_server.demo.serving import listen, port_of, serving
from identity_server.identity.application import identity_application
from identity_server.identity.associations.state import state_bindings
from identity_server.identity.associations.store import Bound, users
from identity_server.identity.lookup.index import Change, reindex
from identity_server.identity.replication import store
from identity_server.identity.replication.rules import Rules
from identity_server.identity.signing.keyring import load_keyring
from identity_server.matrix.threepid import Threepid
from identity_server.runtime.clock import SystemClock
from identity_server.runtime.database import Database
from identity_server.runtime.tokens import SystemEntropy
from identity_server.settings import Settings

ALICE = "@alice:hs.test"
PATIENCE_SECONDS = 30


class Ended(NamedTuple):
    code: int
    out: str
    err: str


class Operator:
    """Of a server that runs in this process; the commands are processes of their own, as they are in life."""

    def __init__(self, name: str, url: str, folder: Path, command: tuple[str, ...]) -> None:
        self.name, self.url, self.command = name, url, command
        self.settings = Settings(
            server={"name": name, "public_base_url": url, "data_dir": folder},
            federation={"allowed_private_networks": ["127.0.0.0/8"]},
            admin={"port": 0},
        )
        self.config = folder / "config.toml"
        self.config.parent.mkdir(parents=True)
        self.config.write_text(
            f'[server]\nname = "{name}"\npublic_base_url = "{url}"\ndata_dir = "{folder}"\n'
            '[federation]\nallowed_private_networks = ["127.0.0.0/8"]\n'
        )
        self.database = Database(self.settings.database_url)

    @property
    def key(self) -> str:
        return load_keyring(self.name, self.settings.signing_key_file, SystemEntropy()).current.verify_key.base64

    async def run(self, *arguments: str, entering: str = "") -> Ended:
        process = await asyncio.create_subprocess_exec(
            *(*self.command, "--config", str(self.config), "peers", *arguments),
            env={"COLUMNS": "200"},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(process.communicate(entering.encode()), PATIENCE_SECONDS)
        return Ended(process.returncode or 0, out.decode(), err.decode())

    async def state(self, address: str, user_id: str = ALICE) -> None:
        keyring = load_keyring(self.name, self.settings.signing_key_file, SystemEntropy())
        threepid = Threepid("email", address)
        async with self.database.transaction() as session:
            now_ms = SystemClock().now_ms()
            bound = Bound(threepid, user_id, None)
            (stated,) = await state_bindings(session, [bound], keyring=keyring, now_ms=now_ms)
            await reindex(session, [Change(threepid, stated.before, stated.after)])

    async def found(self, address: str) -> str | None:
        """Who holds ``address`` by what the server answers lookups from."""
        async with self.database.reading() as session:
            return (await users(session, [Threepid("email", address)])).get(Threepid("email", address))

    async def soon_found(self, address: str) -> str:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (user_id := await self.found(address)) is None:
                await asyncio.sleep(0.05)
        return user_id


@pytest.fixture
async def operators(tmp_path: Path, command: tuple[str, ...]) -> AsyncIterator[tuple[Operator, Operator]]:
    async with AsyncExitStack() as stack:
        both = []
        for name in ("a.test", "b.test"):
            listener = stack.enter_context(listen())
            operator = Operator(name, f"http://127.0.0.1:{port_of(listener)}", tmp_path / name, command)
            stack.push_async_callback(operator.database.close)
            await stack.enter_async_context(serving(identity_application(operator.settings), listener))
            both.append(operator)
        yield both[0], both[1]


async def befriend(a: Operator, b: Operator) -> None:
    for one, other in ((a, b), (b, a)):
        added = await one.run("add", other.name, other.url, "--key", other.key)
        assert added.code == 0, added.err


async def test_two_operators_compare_fingerprints_and_their_servers_share_what_is_bound(
    operators: tuple[Operator, Operator],
) -> None:
    a, b = operators
    shown = (await b.run("fingerprint")).out.strip()
    assert re.fullmatch(r"ed25519:0( +[0-9a-f]{4}){8}", shown.replace("  ", " "))
    added = await a.run("add", "b.test", b.url, entering="y\n")
    assert added.code == 0, added.err
    assert shown in added.out
    assert f"identity-server peers add a.test {a.url}" in added.out
    await a.state("alice@example.org")
    assert (await b.run("add", "a.test", a.url, "--yes")).code == 0
    assert await b.soon_found("alice@example.org") == ALICE
    listed = await b.run("list")
    assert re.search(rf"a\.test +│ {re.escape(a.url)} +│ active +│ 0 +│ 0 +│ +│ +│", listed.out)


async def test_a_peer_is_not_added_unless_somebody_says_yes_or_names_its_key(
    operators: tuple[Operator, Operator],
) -> None:
    a, b = operators
    refused = await a.run("add", "b.test", b.url, entering="n\n")
    assert (refused.code, "Aborted" in refused.err) == (1, True)
    wrong = await a.run("add", "b.test", b.url, "--key", a.key)
    assert (wrong.code, wrong.err) == (
        1,
        "This way to it is not encrypted: whoever is on it reads the addresses.\n"
        "error: the key that was asked for is not among them\n",
    )
    assert (await a.run("list")).out == "There are no peers.\n"


async def test_what_cannot_be_done_is_said_in_one_line(operators: tuple[Operator, Operator]) -> None:
    a, b = operators
    mistakes: list[tuple[tuple[str, ...], str]] = [
        (("add", "a.test", "{b}"), "a.test is this server"),
        (
            ("add", "c.test", "{b}"),
            "{b} could not be asked for its keys: the server there says that its name is b.test",
        ),
        (("add", "b.test", "http://127.0.0.1:1"), "http://127.0.0.1:1 could not be asked for its keys: 127.0.0.1:1: "),
        (("add", "b.test", "b.test"), "the URL is that of an identity server, such as https://id.example.org"),
        (("add", "b test", "{b}"), "b test is no server name"),
        (("add", "b.test", "{b}", "--expires", "soon"), "write how long it is trusted as 90d, 12h or 30m"),
        (("add", "b.test", "{b}", "--key", "AAAA"), "the key is 32 bytes in base64"),
        (("add", "b.test", "{b}", "--medium", "fax"), "the medium is email or msisdn, not fax"),
        (("add", "b.test", "{b}", "--number-prefix", "x"), "a number prefix is digits"),
        (("add", "b.test", "--sydent"), "Sydent does not say its key: give it with --key"),
        (("status", "b.test"), "there is no peer b.test"),
        (("pause", "b.test"), "there is no peer b.test"),
        (("resume", "b.test"), "there is no peer b.test"),
        (("rules", "b.test"), "there is no peer b.test"),
        (("remove", "b.test"), "there is no peer b.test"),
    ]
    for arguments, reason in mistakes:
        command = ["--config", str(a.config), "peers", *(argument.format(b=b.url) for argument in arguments)]
        ended = await asyncio.to_thread(CliRunner().invoke, main.app, command)
        said = ended.stderr.removeprefix("This way to it is not encrypted: whoever is on it reads the addresses.\n")
        assert ended.exit_code == 1, arguments
        assert said.startswith(f"error: {reason.format(b=b.url)}")
        assert said.count("\n") == 1


async def test_rules_are_given_shown_and_changed_and_what_they_refuse_is_shown_with_its_reason(
    operators: tuple[Operator, Operator],
) -> None:
    a, b = operators
    await befriend(b, a)
    assert (await b.run("remove", "a.test")).code == 0
    rules = ("--email-domain", "Example.org", "--medium", "email", "--homeserver", "hs.test", "--max-statements", "9")
    added = await b.run("add", "a.test", a.url, "--key", a.key, *rules, "--expires", "90d")
    assert added.code == 0, added.err
    await a.state("alice@elsewhere.org")
    await a.state("alice@example.org")
    assert await b.soon_found("alice@example.org") == ALICE
    assert await b.found("alice@elsewhere.org") is None
    status = (await b.run("status", "a.test")).out
    assert "rules: mediums email; email domains example.org; homeservers hs.test; at most 9 statements" in status
    assert "set aside: 1 (its statement, refused by us): the peer may not speak about this domain" in status
    assert re.search(r"trusted until: \d{4}-\d\d-\d\d", status)
    assert "taken: 2 of its statements" in status
    changed = await b.run("rules", "a.test", "--anything", "--number-prefix", "+44")
    assert changed.out == "number prefixes 44; at most 50000000 statements\n"
    assert (await b.run("rules", "a.test")).out == changed.out


async def test_a_paused_peer_is_sent_nothing_until_it_is_resumed(operators: tuple[Operator, Operator]) -> None:
    a, b = operators
    await befriend(a, b)
    assert (await a.run("pause", "b.test")).code == 0
    await a.state("alice@example.org")
    await asyncio.sleep(1)
    assert await b.found("alice@example.org") is None
    assert "│ paused" in (await a.run("list")).out
    assert (await a.run("resume", "b.test")).code == 0
    assert await b.soon_found("alice@example.org") == ALICE


async def test_an_alarm_is_shown_and_cleared_only_by_somebody_who_says_so(operators: tuple[Operator, Operator]) -> None:
    a, b = operators
    await befriend(a, b)
    async with a.database.transaction() as session:
        await store.change_peer(session, "b.test", alarm="its history was rewritten", paused=True)
    assert "│ ALARM" in (await a.run("list")).out
    assert "alarm: its history was rewritten" in (await a.run("status")).out
    asked = await a.run("resume", "b.test", entering="n\n")
    assert (asked.code, "its history was rewritten" in asked.out) == (1, True)
    assert "│ ALARM" in (await a.run("list")).out
    assert (await a.run("resume", "b.test", "--yes")).code == 0
    assert "│ active" in (await a.run("list")).out


async def test_what_a_removed_peer_stated_is_answered_no_more_unless_it_is_kept(
    operators: tuple[Operator, Operator],
) -> None:
    a, b = operators
    await befriend(a, b)
    await a.state("alice@example.org")
    assert await b.soon_found("alice@example.org") == ALICE
    assert (await b.run("remove", "a.test", "--keep")).out.endswith("What it stated stays answered.\n")
    assert await b.found("alice@example.org") == ALICE
    # Taken up again, and its log with it.
    assert (await b.run("add", "a.test", a.url, "--key", a.key)).code == 0
    assert await b.soon_found("alice@example.org") == ALICE
    assert "1 addresses" in (await b.run("remove", "a.test")).out
    assert await b.found("alice@example.org") is None
    await a.state("alice@example.org", "@other:hs.test")
    await asyncio.sleep(1)
    assert await b.found("alice@example.org") is None
    assert "M_UNKNOWN_PEER" in (await a.run("status", "b.test")).out


async def test_a_peer_that_runs_sydent_is_added_with_its_key(operators: tuple[Operator, Operator]) -> None:
    a, b = operators
    assert (await a.run("add", "sydent.test", "--sydent", "--key", b.key)).code == 0
    status = (await a.run("status", "sydent.test")).out
    assert "protocol: Sydent's" in status
    assert (await b.run("fingerprint")).out.strip() in status


async def test_what_a_peer_words_cannot_act_on_the_terminal(operators: tuple[Operator, Operator]) -> None:
    a, b = operators
    # One that is owed nothing: there is no turn whose end would change what it worded last.
    assert (await a.run("add", "sydent.test", "--sydent", "--key", b.key)).code == 0
    async with a.database.transaction() as session:
        await store.change_peer(
            session, "sydent.test", paused=True, last_error="[/red]\x1b[2Jgone", rules=Rules().model_dump_json()
        )
    for command in ("list", "status"):
        shown = await a.run(command)
        assert shown.code == 0, shown.err
        assert "\x1b" not in shown.out
        assert "[/red]?[2Jgone" in shown.out
