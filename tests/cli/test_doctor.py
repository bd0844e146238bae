"""`identity-server doctor`: what it finds at healthy servers, and at those that are not."""

import asyncio
import os
import re
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.smtp import SMTP, AuthResult
from sqlalchemy import text
from starlette.types import ASGIApp, Receive, Scope, Send

from identity_server.cli.checks.delivery import check_sms, check_smtp
from identity_server.cli.checks.finding import Finding
from identity_server.cli.checks.network import (
    check_certificates,
    check_dns,
    check_homeservers,
    check_name,
    check_public_url,
)
from identity_server.cli.checks.risks import check_risks
from identity_server.cli.checks.storage import check_database, check_keys
from identity_server.cli.doctor import examine
from identity_server.demo.serving import free_port, listen, port_of, serving, serving_homeserver
from identity_server.demo.sinks import Inbox, mail_server
from identity_server.identity.application import identity_application
from identity_server.runtime.clock import FakeClock, SystemClock
from identity_server.runtime.database import Database
from identity_server.runtime.key_files import generate_key
from identity_server.runtime.migrations import prepare
from identity_server.runtime.tokens import FakeEntropy
from identity_server.settings import Settings

CLOCK = SystemClock()
SMS_ROUTE = {"url": "json://127.0.0.1:1/sms", "prefix": "44"}


def said(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.level, finding.text) for finding in findings]


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


async def test_a_healthy_server_has_no_problem(tmp_path: Path) -> None:
    federation_port = free_port()
    with listen() as mail, listen() as listener:
        settings = Settings(
            server={
                "name": "localhost",
                "public_base_url": f"http://127.0.0.1:{port_of(listener)}",
                "data_dir": tmp_path,
            },
            email={"smtp_url": f"smtp://127.0.0.1:{port_of(mail)}"},
            sms={"routes": [SMS_ROUTE], "allowed_prefixes": ["44"]},
            federation={"ca_file": tmp_path / "homeserver/ca.pem", "allowed_private_networks": ["127.0.0.0/8"]},
            homeserver={"name": f"localhost:{federation_port}", "port": 0, "federation_port": federation_port},
        )
        async with (
            mail_server(Inbox(CLOCK), mail),
            serving_homeserver(settings),
            serving(identity_application(settings), listener),
        ):
            findings = await examine(settings, CLOCK)
    levels = {finding.subject: finding.level for finding in findings}
    assert levels == {
        "name": "warning",  # localhost
        "dns": "fine",
        "public URL": "fine",
        "clock": "fine",
        "keys": "fine",
        "database": "fine",
        "email": "fine",
        "sms": "fine",
        "homeserver": "fine",
        "settings": "warning",  # allowed_private_networks
    }
    assert all(finding.mend for finding in findings if finding.level != "fine")


async def test_the_command_says_what_is_wrong_and_how_to_mend_it_and_ends_with_1(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        f'[server]\npublic_base_url = "http://127.0.0.1:{free_port()}"\ndata_dir = "{tmp_path}"\n'
        f'[email]\nsmtp_url = "smtp://127.0.0.1:{free_port()}"\n'
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "identity_server.cli", "--config", str(config), "doctor"),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2]), "COLUMNS": "80"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert (process.returncode, err) == (1, b"")
    shown = out.decode()
    assert re.search(r"^✗  public URL  http://127\.0\.0\.1:\d+ cannot be reached", shown, re.MULTILINE)
    assert re.search(r"^✗  email       127\.0\.0\.1, port \d+ cannot be connected to", shown, re.MULTILINE)
    assert re.search(r"^!  keys ", shown, re.MULTILINE)
    assert "→ start the server" in shown
    assert "2 problems and 5 warnings." in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert list(tmp_path.iterdir()) == [config]


# Names


async def test_a_name_without_address_is_a_problem() -> None:
    settings = Settings(server={"name": "no-such-host.invalid", "public_base_url": "http://127.0.0.1"})
    assert only(await check_name(settings)).level == "warning"
    unknown, known = await check_dns(settings)
    assert (unknown.level, known.level) == ("problem", "fine")
    assert unknown.text.startswith("no-such-host.invalid has no address")


# What is reached at the public URL


def answering(body: bytes, *headers: tuple[bytes, bytes], status: int = 200) -> ASGIApp:
    async def answer(scope: Scope, _receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": status, "headers": list(headers)})
            await send({"type": "http.response.body", "body": body})

    return answer


@pytest.mark.parametrize(
    ("app", "text"),
    [
        (answering(b"<html>"), "not as an identity server"),
        (answering(b"{}", status=502), "answers with status 502"),
        (answering(b"{}"), "without CORS headers"),
    ],
)
async def test_a_public_url_that_leads_elsewhere_is_a_problem(app: ASGIApp, text: str) -> None:
    with listen() as listener:
        async with serving(app, listener):
            settings = Settings(server={"public_base_url": f"http://127.0.0.1:{port_of(listener)}"})
            url, clock = await check_public_url(settings, CLOCK)
    assert (url.level, clock.level) == ("problem", "fine")
    assert text in url.text


async def test_a_clock_that_is_wrong_is_a_problem() -> None:
    with listen() as listener:
        async with serving(answering(b"{}", (b"access-control-allow-origin", b"*")), listener):
            settings = Settings(server={"public_base_url": f"http://127.0.0.1:{port_of(listener)}"})
            url, clock = await check_public_url(settings, FakeClock(CLOCK.now_ms() - 60_000))
    assert url.level == "fine"
    assert clock.level == "problem"
    assert re.match(r"it is (59|60|61) s apart", clock.text)


# Certificates


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.mark.parametrize(
    ("days", "level", "text"),
    [(90, "fine", "for 90 days"), (3, "warning", "in 3 days"), (-1, "problem", "has expired")],
)
async def test_a_certificate_is_watched_before_it_expires(
    authority: trustme.CA, tmp_path: Path, days: int, level: str, text: str
) -> None:
    ends = datetime.now(UTC) + timedelta(days=days, hours=1)
    file = tmp_path / "tls.pem"
    authority.issue_cert("localhost", not_before=ends - timedelta(days=365), not_after=ends).cert_chain_pems[
        0
    ].write_to_path(file)
    settings = Settings(server={"public_base_url": "http://127.0.0.1", "tls_certificate": file})
    finding = only(await check_certificates(settings, CLOCK))
    assert finding.level == level
    assert text in finding.text


async def test_a_certificate_file_that_is_none_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "tls.pem").write_text("not a certificate")
    settings = Settings(
        server={"public_base_url": "http://127.0.0.1"}, homeserver={"tls_certificate": tmp_path / "tls.pem"}
    )
    assert only(await check_certificates(settings, CLOCK)).level == "problem"


async def test_the_certificate_that_others_see_is_watched_too(authority: trustme.CA, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", not_after=datetime.now(UTC) + timedelta(days=9, hours=1)).configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context) as server:
        url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
        stranger = Settings(server={"public_base_url": url})
        assert only(await check_certificates(stranger, CLOCK)).level == "problem"
        trusting = Settings(server={"public_base_url": url}, federation={"ca_file": tmp_path / "ca.pem"})
        finding = only(await check_certificates(trusting, CLOCK))
    assert finding.level == "warning"
    assert "expires in 9 days" in finding.text


# Keys and database


async def test_keys_that_others_can_read_are_a_problem(tmp_path: Path) -> None:
    settings = Settings(server={"data_dir": tmp_path})
    assert only(await check_keys(settings)).level == "warning"
    generate_key(settings.signing_key_file, FakeEntropy())
    generate_key(settings.signing_key_file, FakeEntropy(1))
    assert said(await check_keys(settings)) == [("fine", "ed25519:1 signs, 1 older to verify with")]
    settings.signing_key_file.chmod(0o640)
    finding = only(await check_keys(settings))
    assert finding.level == "problem"
    assert finding.mend == f"chmod 600 {settings.signing_key_file}"


@pytest.mark.parametrize("content", ["", "ed25519 0 short\n", "no key at all\n"])
async def test_a_key_file_without_a_key_is_a_problem(tmp_path: Path, content: str) -> None:
    settings = Settings(server={"data_dir": tmp_path})
    settings.signing_key_file.write_text(content)
    settings.signing_key_file.chmod(0o600)
    assert only(await check_keys(settings)).level == "problem"


async def test_a_database_is_fine_once_it_has_the_tables_of_this_version(
    new_database_url: Callable[..., Awaitable[str]],
) -> None:
    settings = Settings(database={"url": await new_database_url(None)})
    first = only(await check_database(settings, CLOCK))
    assert first.level == "warning"
    assert re.search("is empty|is not there yet", first.text)
    database = Database(settings.database_url)
    try:
        await prepare(database, "identity")
        prepared = only(await check_database(settings, CLOCK))
        async with database.transaction() as session:
            await session.execute(text("UPDATE alembic_version SET version_num = '0000'"))
        outdated = only(await check_database(settings, CLOCK))
    finally:
        await database.close()
    assert prepared.level == "fine"
    assert (outdated.level, outdated.mend) == ("problem", "identity-server migrate")


async def test_an_sqlite_database_that_others_can_read_is_worth_a_warning(tmp_path: Path) -> None:
    settings = Settings(server={"data_dir": tmp_path})
    database = Database(settings.database_url)
    await prepare(database, "identity")
    await database.close()
    file = Path(database.url.database or "")
    for folder_mode, mode, levels in (
        (0o755, 0o600, ["fine"]),
        (0o755, 0o644, ["fine", "warning"]),
        (0o750, 0o640, ["fine", "warning"]),
        # Who may not enter the folder reads no file in it.
        (0o750, 0o604, ["fine"]),
        (0o700, 0o644, ["fine"]),
    ):
        tmp_path.chmod(folder_mode)
        file.chmod(mode)
        findings = await check_database(settings, CLOCK)
        assert [finding.level for finding in findings] == levels
    tmp_path.chmod(0o755)
    assert (await check_database(settings, CLOCK))[1].mend == f"chmod 600 {file}*"


async def test_a_clock_apart_from_the_databases_is_a_problem(postgres: str) -> None:
    findings = await check_database(Settings(database={"url": postgres}), FakeClock(CLOCK.now_ms() + 60_000))
    assert [finding.level for finding in findings if finding.subject == "clock"] == ["problem"]


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("mysql://localhost/identity", "no database URL"),
        ("nonsense", "no database URL"),
        ("postgresql://nobody:secret@127.0.0.1:1/identity", "PostgreSQL, identity on 127.0.0.1"),
    ],
)
async def test_a_database_that_is_not_there_is_a_problem(url: str, text: str) -> None:
    finding = only(await check_database(Settings(database={"url": url}), CLOCK))
    assert finding.level == "problem"
    assert text in finding.text
    assert "secret" not in finding.text


async def test_a_folder_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = Settings(server={"data_dir": tmp_path / "file" / "data"})
    finding = only(await check_database(settings, CLOCK))
    assert finding.level == "problem"
    assert "not writable" in finding.text


# Mail and SMS


@asynccontextmanager
async def smtp_server(**options: Any) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(object(), loop=loop, **options), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_a_mail_server_is_logged_in_to_over_tls() -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def authenticate(_server: Any, _session: Any, _envelope: Any, _mechanism: str, login: Any) -> AuthResult:
        return AuthResult(success=login.password == b"right", handled=False)

    async with smtp_server(tls_context=context, authenticator=authenticate, auth_required=True) as port:
        for password, level in (("right", "fine"), ("wrong", "problem")):
            url = f"smtp://us:{password}@127.0.0.1:{port}"
            finding = only(await check_smtp(Settings(email={"smtp_url": url})))
            assert finding.level == level, finding
            assert password not in finding.text
        strict = only(await check_smtp(Settings(email={"smtp_url": f"smtp+starttls://127.0.0.1:{port}"})))
    assert strict.level == "problem"
    assert "TLS fails" in strict.text


async def test_a_mail_server_without_the_tls_that_is_asked_for_is_a_problem() -> None:
    async with smtp_server() as port:
        plain = only(await check_smtp(Settings(email={"smtp_url": f"smtp://127.0.0.1:{port}"})))
        starttls = only(await check_smtp(Settings(email={"smtp_url": f"smtp+starttls://127.0.0.1:{port}"})))
        tls = only(await check_smtp(Settings(email={"smtp_url": f"smtps://127.0.0.1:{port}"})))
    assert [plain.level, starttls.level, tls.level] == ["fine", "problem", "problem"]
    assert "STARTTLS" in starttls.text


@pytest.mark.parametrize("email", [{"smtp_url": "http://mail.test"}, {"sender": "nobody"}])
async def test_mail_settings_that_mean_nothing_are_a_problem(email: dict[str, str]) -> None:
    assert only(await check_smtp(Settings(email=email))).level == "problem"


async def test_sms_routes_are_read() -> None:
    assert only(await check_sms(Settings())).level == "warning"
    assert only(await check_sms(Settings(sms={"routes": [SMS_ROUTE]}))).level == "fine"
    wrong = only(await check_sms(Settings(sms={"routes": [SMS_ROUTE, {"url": "nosuchservice://key"}]})))
    assert wrong.level == "problem"
    assert "nosuchservice" in wrong.text


# Homeservers and settings


async def test_a_homeserver_that_does_not_answer_is_a_problem(tmp_path: Path) -> None:
    names = [f"localhost:{free_port()}", "not a name"]
    settings = Settings(
        federation={"homeserver_allow_list": names, "allowed_private_networks": ["127.0.0.0/8", "::1/128"]}
    )
    assert [finding.level for finding in await check_homeservers(settings, CLOCK)] == ["problem", "problem"]


async def test_risky_settings_are_warned_of(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.touch(0o644)
    careless = Settings(
        server={"workers": 4},
        email={"smtp_url": "smtp://user:secret@mail.test"},
        sms={"routes": [SMS_ROUTE]},
        compatibility={"v1_api": "all", "v1_callers": [], "query_token": "all"},
        federation={"verify_certificates": False, "allowed_private_networks": ["10.0.0.0/8"]},
        validation={"confirm_links": False},
        lookup={"algorithms": ["sha256", "none"]},
        admin={"bind": "0.0.0.0"},
        homeserver={"registration": True},
        logging={"level": "debug"},
    )
    findings = await check_risks(careless, config)
    assert {finding.level for finding in findings} == {"warning"}
    assert len(findings) == 12
    assert all(finding.mend for finding in findings)
    off = only(await check_risks(Settings(rate_limits={"enabled": False}), None))
    assert "rate limits are off" in off.text
    assert said(await check_risks(Settings(), None)) == [("fine", "nothing risky")]
