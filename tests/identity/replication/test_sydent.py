"""Peers that run Sydent: a test peer that follows its wire to the letter, by mutual TLS on real sockets, both ways."""

import asyncio
import datetime
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import signedjson.key
import signedjson.sign
import trustme
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pydantic import ValidationError
from starlette.types import ASGIApp

from identity_server.identity.application import identity_application, replication_application
from identity_server.identity.associations import store as associations
from identity_server.identity.associations.statement import Statement
from identity_server.identity.replication import store
from identity_server.identity.replication.membership import add_peer
from identity_server.identity.replication.models import SYDENT, Peer, SetAside
from identity_server.identity.replication.retire import retire
from identity_server.identity.replication.rules import Rules
from identity_server.identity.replication.sydent.tls import connecting_context
from identity_server.identity.signing.keyring import Keyring
from identity_server.matrix.signing import VerifyKey
from identity_server.matrix.threepid import Threepid
from identity_server.runtime.key_files import generate_key, read_keys
from identity_server.serve import replication_config, replication_port
from identity_server.settings import ReplicationSettings, Settings
from tests.world import IdentityServer, serving

PUSH = "/_matrix/identity/replicate/v1/push"
OURS, THEIRS = "is.test", "is-a.test"
ALICE, BOB = "@alice:hs.test", "@bob:hs.test"
LIFETIME_MS = 3_153_600_000_000


@dataclass
class Sydent:
    """The test peer: states things, and takes what it is sent as Sydent would."""

    name: str = THEIRS
    key: Any = field(default_factory=lambda: signedjson.key.generate_signing_key("0"))
    port: int = 0
    our_key: Any = None
    requests: list[dict[str, Any]] = field(default_factory=list)
    taken: dict[int, dict[str, Any]] = field(default_factory=dict)
    refuses: Callable[[dict[str, Any]], bool] = lambda _item: False
    answers: list[tuple[int, Any]] = field(default_factory=list)

    def item(self, address: str, mxid: str | None, ts: int, /, **changes: Any) -> dict[str, Any]:
        bound = mxid is not None
        said = {
            "medium": "email",
            "address": address,
            "mxid": mxid,
            "ts": ts,
            "not_before": ts if bound else None,
            "not_after": ts + LIFETIME_MS if bound else None,
            **changes,
        }
        signed: dict[str, Any] = signedjson.sign.sign_json(
            {field: value for field, value in said.items() if value is not ...}, self.name, self.key
        )
        return signed

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            lines = [line, *[line async for line in _until_blank(reader)]]
            headers = dict(line.decode().rstrip().lower().split(": ", 1) for line in lines[1:])
            body = await reader.readexactly(int(headers["content-length"]))
            subject = {k: v for part in writer.get_extra_info("ssl_object").getpeercert()["subject"] for k, v in part}
            self.requests.append({"line": lines[0].decode().rstrip(), "headers": headers, "subject": subject})
            status, answer = self.answers.pop(0) if self.answers else self.take(headers, json.loads(body))
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content)
            await writer.drain()
        writer.close()

    def take(self, headers: dict[str, str], body: dict[str, Any]) -> tuple[int, Any]:
        """As measured: only ``application/json``, only key ``ed25519:0``, only whole batches."""
        if headers["content-type"] != "application/json":
            return 400, {"errcode": "M_NOT_JSON", "error": "?"}
        batch = {int(number): item for number, item in body["sgAssocs"].items()}
        assert len(batch) <= 100
        assert list(batch) == sorted(batch)
        failed = []
        for number, item in batch.items():
            assert set(item) == {"medium", "address", "mxid", "ts", "not_before", "not_after", "signatures"}
            try:
                signedjson.sign.verify_signed_json(item, OURS, self.our_key)
                assert not self.refuses(item)
            except (signedjson.sign.SignatureVerifyException, AssertionError):
                failed.append(str(number))
        if failed:
            return 400, {"errcode": "M_VERIFICATION_FAILED", "error": "?", "failed_ids": failed}
        self.taken.update(batch)
        return 200, {"success": True}


async def _until_blank(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while (line := await reader.readline()) not in (b"\r\n", b""):
        yield line


@dataclass
class World:
    """Our server, its port for such peers, and such a peer."""

    server: IdentityServer
    authority: trustme.CA
    peer: Sydent
    port: int
    folder: Path

    async def push(self, body: Any, **options: Any) -> httpx.Response:
        """As the peer (or whoever the ``certificate`` is for) pushes ``body`` to us."""
        certificate = options.pop("certificate", None) or self.certificate(self.peer.name)
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        context = ssl.create_default_context(cafile=self.folder / "ca.pem")
        if certificate != "none":
            context.load_cert_chain(certificate)
        headers = {"Content-Type": options.pop("content_type", "application/json")}
        async with httpx.AsyncClient(verify=context, trust_env=False) as client:
            return await client.post(f"https://127.0.0.1:{self.port}{PUSH}", content=content, headers=headers)

    async def state(self, *numbered: tuple[int, dict[str, Any]]) -> httpx.Response:
        return await self.push({"sgAssocs": {str(number): item for number, item in numbered}})

    def certificate(self, common_name: str | None, **options: Any) -> Path:
        file = self.folder / f"{common_name}.pem"
        leaf = self.authority.issue_cert("127.0.0.1", common_name=common_name, **options)
        leaf.private_key_and_cert_chain_pem.write_to_path(str(file))
        return file

    async def found(self, *addresses: str) -> dict[str, str]:
        return await self.server.found(await self.server.account("@reader:hs.test"), *addresses)

    async def row(self) -> Peer:
        async with self.server.database.reading() as session:
            row = await store.find_peer(session, self.peer.name)
        assert row is not None
        return row

    async def change(self, **values: Any) -> None:
        async with self.server.database.transaction() as session:
            assert await store.change_peer(session, self.peer.name, **values)

    async def set_aside(self) -> list[SetAside]:
        async with self.server.database.reading() as session:
            return sorted(await store.all_set_aside(session, self.peer.name), key=lambda row: row.position)

    async def count(self) -> int:
        async with self.server.database.reading() as session:
            return await store.count_statements(session, self.peer.name)

    async def exchange(self) -> None:
        """One turn of our pushing, a good while later."""
        self.server.clock.advance(seconds=600)
        exchange = self.server.state["exchange"]
        await exchange.run(0)
        for turn in list(exchange._turns.values()):
            await turn

    @property
    def now_ms(self) -> int:
        return self.server.clock.now_ms()


@asynccontextmanager
async def listening(settings: Settings, app: ASGIApp) -> AsyncIterator[int]:
    server = uvicorn.Server(replication_config(settings, app))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        running = asyncio.create_task(server._serve([listener]))
        async with asyncio.timeout(10):
            while not server.started:
                await asyncio.sleep(0.005)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            await running


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
async def world(
    new_database_url: Callable[[], Awaitable[str]], tmp_path: Path, authority: trustme.CA
) -> AsyncIterator[World]:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    one_file = tmp_path / "ours.pem"
    leaf = authority.issue_cert("127.0.0.1", common_name=OURS)
    leaf.private_key_and_cert_chain_pem.write_to_path(str(one_file))
    settings = Settings(
        server={"name": OURS, "public_base_url": "https://is.test", "data_dir": tmp_path},
        database={"url": await new_database_url()},
        rate_limits={"enabled": False},
        federation={"allowed_private_networks": ["127.0.0.0/8"]},
        replication={"listen_port": 1, "certificate": one_file, "ca_file": tmp_path / "ca.pem"},
    )
    server = IdentityServer(settings)
    app = identity_application(
        settings,
        clock=server.clock,
        entropy=server.entropy,
        outlet=server.outlet,
        homeservers=server.homeservers,
        background=False,
    )
    peer = Sydent()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tmp_path / "ca.pem")
    tls.verify_mode = ssl.CERT_REQUIRED
    authority.issue_cert("127.0.0.1", common_name=THEIRS).configure_cert(tls)
    async with (
        serving(app) as (server.state, server.client),
        await asyncio.start_server(peer.handle, "127.0.0.1", 0, ssl=tls) as theirs,
        listening(settings, replication_application(settings, server.clock)) as port,
    ):
        peer.port = theirs.sockets[0].getsockname()[1]
        peer.our_key = _signedjson_key(server.state["keyring"])
        async with server.database.transaction() as session:
            await add_peer(
                session,
                THEIRS,
                f"https://127.0.0.1:{peer.port}",
                [VerifyKey.from_base64("ed25519:0", signedjson.key.encode_verify_key_base64(peer.key.verify_key))],
                rules=Rules(),
                expires_ts=None,
                now_ms=server.clock.now_ms(),
            )
            await store.change_peer(session, THEIRS, protocol=SYDENT)
        yield World(server, authority, peer, port, tmp_path)
        await server.state["exchange"].finish()


def _signedjson_key(keyring: Keyring) -> Any:
    ours = keyring.find("ed25519:0")
    assert ours is not None
    return signedjson.key.decode_verify_key_bytes("ed25519:0", ours.key.verify_key.encode())


# What the peer states reaches us


async def test_what_the_peer_states_is_found_and_its_end_too(world: World) -> None:
    said = world.peer.item("alice@example.org", ALICE, world.now_ms)
    ended = world.peer.item("alice@example.org", None, world.now_ms + 1)
    answer = await world.state((1, said))
    assert (answer.status_code, answer.json()) == (200, {"success": True})
    assert await world.found("alice@example.org") == {"alice@example.org": ALICE}
    assert (await world.state((3, ended))).status_code == 200
    assert await world.found("alice@example.org") == {}
    assert ((await world.row()).taken_position, (await world.row()).last_contact_ts) == (3, world.now_ms)


async def test_a_charset_after_the_content_type_is_fine_and_so_is_none_at_all(world: World) -> None:
    for number, content_type in enumerate(("application/json; charset=utf-8", "Application/JSON;charset=UTF-8", ""), 1):
        item = world.peer.item(f"{number}@example.org", ALICE, world.now_ms)
        answer = await world.push({"sgAssocs": {str(number): item}}, content_type=content_type)
        assert answer.json() == {"success": True}
    assert await world.count() == 3


async def test_ids_that_are_sent_again_are_passed_over_whatever_they_say_now(world: World) -> None:
    first = world.peer.item("alice@example.org", ALICE, world.now_ms)
    await world.state((1, first))
    await world.state((1, first), (2, world.peer.item("bob@example.org", BOB, world.now_ms)))
    await world.state((1, world.peer.item("alice@example.org", BOB, world.now_ms + 1)))
    bindings = {"alice@example.org": ALICE, "bob@example.org": BOB}
    assert await world.found(*bindings) == bindings
    assert await world.count() == 2


async def test_what_comes_late_of_an_id_that_was_left_out_is_taken(world: World) -> None:
    await world.state((7, world.peer.item("alice@example.org", ALICE, world.now_ms)))
    await world.state((5, world.peer.item("alice@example.org", None, world.now_ms - 1)))
    assert await world.found("alice@example.org") == {"alice@example.org": ALICE}
    assert ((await world.row()).taken_position, await world.count()) == (7, 2)


async def test_ids_are_ordered_as_numbers(world: World) -> None:
    ts = world.now_ms
    items = {str(number): world.peer.item("alice@example.org", f"@{number}:hs.test", ts) for number in (10, 9, 2)}
    assert (await world.push({"sgAssocs": items})).status_code == 200
    assert await world.found("alice@example.org") == {"alice@example.org": "@10:hs.test"}


async def test_a_tombstone_of_the_peer_ends_only_what_it_is_newer_than(world: World) -> None:
    world.server.clock.advance(seconds=10)
    await world.server.bound(BOB)
    await world.state((1, world.peer.item("alice@example.org", None, world.now_ms - 5_000)))
    assert await world.found("alice@example.org") == {"alice@example.org": BOB}
    await world.state((2, world.peer.item("alice@example.org", None, world.now_ms + 5_000)))
    assert await world.found("alice@example.org") == {}


async def test_addresses_are_folded_for_peers_that_do_not(world: World) -> None:
    await world.state((1, world.peer.item("Alice@Example.ORG", ALICE, world.now_ms)))
    assert await world.found("alice@example.org") == {"alice@example.org": ALICE}


async def test_what_is_no_batch_is_refused(world: World) -> None:
    for content in (b"", b"sgAssocs", '{"sgAssocs": {"é": 1}}'.encode("latin-1"), b'{"sgAssocs": {"1": NaN}}'):
        answer = await world.push(content)
        assert (answer.status_code, answer.json()["errcode"]) == (400, "M_NOT_JSON"), content
    ids = ("one", "", "1.0", "-1", "0", "01", " 1", "1e3", "٣", "9" * 16, "9" * 5000)
    for body in ([], {}, *({"sgAssocs": what} for what in ([{}], [], None, "1", 1, *({key: {}} for key in ids)))):
        answer = await world.push(body)
        assert (answer.status_code, answer.json()["errcode"]) == (400, "M_BAD_JSON"), body


async def test_an_empty_batch_is_a_success(world: World) -> None:
    assert (await world.push({"sgAssocs": {}})).json() == {"success": True}


async def test_items_that_are_malformed_or_not_signed_are_named_and_nothing_is_taken(world: World) -> None:
    peer, ts, address = world.peer, world.now_ms, "alice@example.org"
    elsewhere = Sydent(name="is-b.test", key=peer.key)
    other_id = signedjson.key.generate_signing_key("1")
    bad: list[Any] = [
        None,
        "text",
        [],
        {},
        *(peer.item(address, ALICE, ts, **{name: ...}) for name in ("medium", "address", "mxid", "ts")),
        *(peer.item(address, None, ts, **{name: ...}) for name in ("not_before", "not_after")),
        peer.item(address, ALICE, ts, ts=str(ts)),
        peer.item(address, ALICE, ts, ts=True),
        peer.item(address, ALICE, ts, ts=None),
        {**peer.item(address, ALICE, ts), "ts": 1.5},
        {**peer.item(address, ALICE, ts), "ts": 2**60},
        peer.item(address, ALICE, ts, not_after="never"),
        peer.item(address, ALICE, ts, mxid=5),
        peer.item(address, ALICE, ts, medium=None),
        peer.item(address, ALICE, ts, address=[address]),
        peer.item("a\0@example.org", ALICE, ts),
        peer.item("a" * 1000 + "@example.org", ALICE, ts),
        {**peer.item(address, ALICE, ts), "mxid": BOB},  # changed after it was signed
        {**peer.item(address, ALICE, ts), "signatures": {}},
        {**peer.item(address, ALICE, ts), "signatures": [THEIRS]},
        {**peer.item(address, ALICE, ts), "signatures": {THEIRS: {"ed25519:0": "????"}}},
        {**peer.item(address, ALICE, ts), "signatures": {THEIRS: {"ed25519:0": 7}}},
        Sydent().item(address, ALICE, ts),  # somebody else's key
        Sydent(key=other_id).item(address, ALICE, ts),  # a key id that we do not know
        elsewhere.item(address, ALICE, ts),  # in another's name
    ]
    good = {"1": peer.item("good@example.org", ALICE, ts), "99": peer.item("too@example.org", None, ts)}
    batch = {**{str(number): item for number, item in enumerate(bad, 2)}, **good}
    answer = await world.push({"sgAssocs": batch})
    assert (answer.status_code, answer.json()["errcode"]) == (400, "M_VERIFICATION_FAILED")
    assert answer.json()["failed_ids"] == [str(number) for number in range(2, len(bad) + 2)]
    assert await world.found("good@example.org", address) == {}
    assert (await world.count(), (await world.row()).taken_position) == (0, 0)
    assert (await world.push({"sgAssocs": good})).json() == {"success": True}
    assert await world.found("good@example.org") == {"good@example.org": ALICE}


async def test_any_key_that_we_hold_of_the_peer_will_do(world: World) -> None:
    newer = signedjson.key.generate_signing_key("new")
    public = VerifyKey.from_base64("ed25519:new", signedjson.key.encode_verify_key_base64(newer.verify_key))
    async with world.server.database.transaction() as session:
        await store.add_peer_keys(session, THEIRS, [public], now_ms=0)
    assert (await world.state((1, Sydent(key=newer).item("alice@example.org", ALICE, world.now_ms)))).status_code == 200


async def test_what_the_rules_do_not_allow_is_set_aside_and_counts_as_taken(world: World) -> None:
    await world.change(rules=Rules(email_domains=("example.org",)).model_dump_json())
    batch = [
        (1, world.peer.item("one@example.org", ALICE, world.now_ms)),
        (2, world.peer.item("two@elsewhere.org", ALICE, world.now_ms)),
        (3, world.peer.item("three@example.org", ALICE, world.now_ms + 3_600_000)),
        (4, world.peer.item("four@example.org", ALICE, world.now_ms)),
    ]
    for _ in range(2):
        assert (await world.state(*batch)).json() == {"success": True}
    assert set(await world.found("one@example.org", "two@elsewhere.org", "three@example.org", "four@example.org")) == {
        "one@example.org",
        "four@example.org",
    }
    aside = await world.set_aside()
    assert [(row.position, row.of_ours) for row in aside] == [(2, False), (3, False)]
    assert "domain" in aside[0].reason
    assert "future" in aside[1].reason


async def test_the_share_of_the_peer_is_bounded_by_how_much_it_states_not_by_its_ids(world: World) -> None:
    await world.change(rules=Rules(max_statements=3).model_dump_json())
    batch = [(number, world.peer.item(f"{number}@example.org", ALICE, world.now_ms)) for number in (10, 20, 30, 40)]
    await world.state(*batch[:2])
    await world.state(*batch[2:])
    assert await world.count() == 3
    assert [(row.position, row.reason) for row in await world.set_aside()] == [(40, "the peer's share is full")]


async def test_a_retired_peer_is_no_longer_answered_for(world: World) -> None:
    await world.state((1, world.peer.item("alice@example.org", ALICE, world.now_ms)))
    assert await retire(world.server.database, THEIRS, OURS) == 1
    assert await world.found("alice@example.org") == {}


# Who it is that speaks


async def test_only_a_known_peer_of_this_protocol_that_is_trusted_now_may_push(world: World) -> None:
    body = {"sgAssocs": {"1": world.peer.item("alice@example.org", ALICE, world.now_ms)}}
    for stranger in ("is-b.test", OURS, "127.0.0.1", THEIRS.upper(), None):
        answer = await world.push(body, certificate=world.certificate(stranger))
        assert (answer.status_code, answer.json()["errcode"]) == (403, "M_UNKNOWN_PEER"), stranger
    for changes in ({"paused": True}, {"expires_ts": world.now_ms}, {"protocol": "native"}):
        was = {name: getattr(await world.row(), name) for name in changes}
        await world.change(**changes)
        answer = await world.push(body)
        assert (answer.status_code, answer.json()["errcode"]) == (403, "M_UNKNOWN_PEER"), changes
        await world.change(**was)
    assert (await world.push(body)).status_code == 200


async def test_two_connections_do_not_lend_each_other_their_names(world: World) -> None:
    body = {"sgAssocs": {"1": world.peer.item("alice@example.org", ALICE, world.now_ms)}}
    stranger, known = world.certificate("is-b.test"), world.certificate(THEIRS)
    answers = await asyncio.gather(*(world.push(body, certificate=one) for one in (stranger, known) * 4))
    assert [answer.status_code for answer in answers] == [403, 200] * 4


async def test_certificates_that_do_not_serve_are_refused_by_tls(world: World) -> None:
    now = datetime.datetime.now(datetime.UTC)
    stranger = world.folder / "stranger.pem"
    leaf = trustme.CA().issue_cert("127.0.0.1", common_name=THEIRS)
    leaf.private_key_and_cert_chain_pem.write_to_path(str(stranger))
    useless = {
        "none": "none",
        "expired": world.certificate(THEIRS, not_after=now - datetime.timedelta(hours=1)),
        "of another authority": stranger,
        "for servers only": _for_servers_only(world),
    }
    body = {"sgAssocs": {"1": world.peer.item("alice@example.org", ALICE, world.now_ms)}}
    for why, certificate in useless.items():
        with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError, httpx.ConnectError)):
            pytest.fail(f"{why}: {await world.push(body, certificate=certificate)}")
    assert await world.count() == 0


def _for_servers_only(world: World) -> Path:
    """A certificate whose extended key usage leaves out clients."""
    signer = serialization.load_pem_private_key(world.authority.private_key_pem.bytes(), None)
    issuer = x509.load_pem_x509_certificate(world.authority.cert_pem.bytes()).subject
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, THEIRS)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(signer, hashes.SHA256())
    )
    file = world.folder / "servers.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return file


# What we state reaches the peer


async def test_what_is_bound_here_is_pushed_as_sydent_takes_it(world: World) -> None:
    headers = await world.server.bound(ALICE)
    body = {"mxid": ALICE, "threepid": {"medium": "email", "address": "alice@example.org"}}
    answer = await world.server.client.post("/_matrix/identity/v2/3pid/unbind", json=body, headers=headers)
    assert answer.status_code == 200
    await world.exchange()
    [request] = world.peer.requests
    assert request["line"] == f"POST {PUSH} HTTP/1.1"
    assert request["headers"]["content-type"] == "application/json"
    assert request["subject"]["commonName"] == OURS
    binding, tombstone = (world.peer.taken[number] for number in (1, 2))
    assert (binding["mxid"], binding["not_after"]) == (ALICE, binding["ts"] + LIFETIME_MS)
    assert (tombstone["mxid"], tombstone["not_before"], tombstone["not_after"]) == (None, None, None)
    row = await world.row()
    assert (row.sent_position, row.failures, row.last_error) == (2, 0, None)
    await world.exchange()
    assert len(world.peer.requests) == 1


async def test_what_the_peer_told_us_is_not_told_it_back(world: World) -> None:
    await world.state((1, world.peer.item("alice@example.org", ALICE, world.now_ms)))
    await world.exchange()
    assert world.peer.requests == []


async def test_a_backlog_goes_in_batches_of_a_hundred(world: World) -> None:
    async with world.server.database.transaction() as session:
        head = await associations.lock_log(session)
        said = [Statement.binding(Threepid("email", f"{n}@example.org"), ALICE, world.now_ms) for n in range(250)]
        await associations.append(session, head, OURS, [associations.Signed(one) for one in said])
    await world.exchange()
    assert list(world.peer.taken) == list(range(1, 251))
    assert len(world.peer.requests) == 3


async def test_what_the_peer_refuses_is_set_aside_and_the_rest_is_sent_again(world: World) -> None:
    world.peer.refuses = lambda item: item["address"].startswith("bad")
    for number, address in enumerate(("one@example.org", "bad@example.org", "two@example.org", "bad2@example.org")):
        await world.server.bound(ALICE, address, f"s{number}")
    await world.exchange()
    assert set(world.peer.taken) == {1, 3}
    assert [(row.position, row.of_ours) for row in await world.set_aside()] == [(2, True), (4, True)]
    row = await world.row()
    assert (row.sent_position, row.failures) == (4, 0)
    await world.server.bound(ALICE, "three@example.org", "last")
    await world.exchange()
    assert set(world.peer.taken) == {1, 3, 5}


async def test_a_peer_that_fails_is_tried_again_later_with_what_it_has_not_got(world: World) -> None:
    await world.server.bound(ALICE)
    failures: list[tuple[int, Any]] = [
        (500, {}),
        (200, {}),
        (200, b"<html>"),
        (403, {"errcode": "M_UNKNOWN_PEER"}),
        (400, {"errcode": "M_BAD_JSON"}),
        (400, {"errcode": "M_VERIFICATION_FAILED", "failed_ids": ["77"]}),
        (400, {"errcode": "M_VERIFICATION_FAILED", "failed_ids": {"1": 1}}),
        (400, []),
    ]
    for number, failure in enumerate(failures, 1):
        world.peer.answers.append(failure)
        await world.exchange()
        row = await world.row()
        assert (row.failures, row.sent_position) == (number, 0)
        assert row.next_try_ts > world.now_ms
        assert (row.last_error or "").startswith("it answered with status")
    assert await world.set_aside() == []
    await world.exchange()
    assert (set(world.peer.taken), (await world.row()).failures) == ({1}, 0)


async def test_a_peer_that_is_not_who_it_should_be_is_sent_nothing(world: World) -> None:
    await world.server.bound(ALICE)
    await world.change(base_url=f"https://localhost:{world.peer.port}")
    await world.exchange()
    assert world.peer.requests == []
    assert "certificate" in ((await world.row()).last_error or "").lower()


async def test_a_private_address_is_reached_only_where_the_settings_allow_it(world: World) -> None:
    await world.server.bound(ALICE)
    await world.change(base_url="https://10.0.0.1:1001")
    await world.exchange()
    assert "may be reached" in ((await world.row()).last_error or "")


async def test_without_a_base_url_the_peer_is_sought_at_its_name_on_port_1001(world: World) -> None:
    await world.server.bound(ALICE)
    await world.change(base_url="")
    await world.exchange()
    assert (await world.row()).last_error == "is-a.test:1001: cannot be resolved"


async def test_after_a_roll_over_both_keys_sign_and_without_the_first_nothing_is_sent(world: World) -> None:
    file = world.server.settings.signing_key_file
    generate_key(file, world.server.entropy)
    keys = read_keys(file)
    world.server.state["exchange"]._sydent._keyring = Keyring(OURS, keys)
    await world.server.bound(ALICE)
    await world.exchange()
    assert set(world.peer.taken[1]["signatures"][OURS]) == {"ed25519:0", "ed25519:1"}
    world.server.state["exchange"]._sydent._keyring = Keyring(OURS, keys[1:])
    await world.server.bound(ALICE, "other@example.org", "other")
    await world.exchange()
    assert "ed25519:0" in ((await world.row()).last_error or "")
    assert await world.set_aside() == []


async def test_a_peer_that_is_not_trusted_now_is_sent_nothing(world: World) -> None:
    await world.server.bound(ALICE)
    for changes in ({"paused": True}, {"paused": False, "expires_ts": world.now_ms}):
        await world.change(**changes)
        await world.exchange()
    assert world.peer.requests == []


async def test_the_server_opens_the_port_beside_its_own_and_will_not_start_without_it(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        replication = world.server.settings.replication.model_copy(update={"listen_port": port, "bind": "127.0.0.1"})
        settings = world.server.settings.model_copy(update={"replication": replication})
        with pytest.raises(OSError, match="in use"), replication_port(settings):
            pass
    with replication_port(settings):
        world.port = port
        assert (await world.push({"sgAssocs": {}})).json() == {"success": True}


def test_the_port_needs_certificates(tmp_path: Path) -> None:
    missing = ReplicationSettings(certificate=tmp_path / "one.pem")
    with pytest.raises(OSError, match=r"replication\.certificate"):
        connecting_context(missing)
    with pytest.raises(ValidationError, match="certificate"):
        ReplicationSettings(listen_port=4434, certificate=tmp_path / "one.pem")
