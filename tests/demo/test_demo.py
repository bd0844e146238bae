"""The demo, as a person starts it."""

import asyncio
import io
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from identity_server.cli.demo import show
from identity_server.demo.journal import Entry
from identity_server.demo.story import Chapter, Story
from identity_server.demo.tour import TOUR, run_tour
from identity_server.demo.world import World, open_world
from identity_server.matrix.threepid import MSISDN, Threepid
from identity_server.runtime.tokens import SystemEntropy

DEMO = (sys.executable, "-W", "error", "-W", "ignore:'imghdr' is deprecated", "-m", "identity_server.cli", "demo")

Start = Callable[..., Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts the demo in an empty folder, in an environment that it should not heed."""
    started: list[asyncio.subprocess.Process] = []
    environment = {
        **os.environ,
        "TMPDIR": str(tmp_path),
        "COLUMNS": "100",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "IDENTITY_SERVER_SERVER__NAME": "real.example.org",
        "IDENTITY_SERVER_DATABASE__URL": f"sqlite:///{tmp_path}/real.db",
        "http_proxy": "http://127.0.0.1:1",
    }

    async def start(*options: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            *DEMO,
            *options,
            cwd=tmp_path,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def test_it_goes_well_beside_another_that_stays_for_people_to_look(start: Start, tmp_path: Path) -> None:
    staying = await start("--port", str(port := free_port()))
    await until_it_stays(staying)
    folders = set(tmp_path.iterdir())

    passing = await start("--once")
    out, err = await asyncio.wait_for(passing.communicate(), 90)
    assert (passing.returncode, err) == (0, b""), out.decode() + err.decode()
    assert_all_was_shown(out.decode())
    assert set(tmp_path.iterdir()) == folders, "it leaves nothing behind"

    await look_around(port)
    staying.send_signal(signal.SIGINT)
    _, err = await asyncio.wait_for(staying.communicate(), 15)
    assert (staying.returncode, err) == (0, b"")
    assert list(tmp_path.iterdir()) == []


async def until_it_stays(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    shown = b""
    async with asyncio.timeout(90):
        while b"Ctrl-C" not in shown:
            line = await process.stdout.readline()
            assert line, shown.decode()
            shown += line


def assert_all_was_shown(shown: str) -> None:
    for number, chapter in enumerate(TOUR, 1):
        assert re.search(rf"^✓ +{number} {re.escape(chapter.title)}", shown, re.MULTILINE)
    for exchange in (
        r"POST /_matrix/client/v3/register +401",
        r"POST /_matrix/identity/v2/account/register +200",
        r"GET +/_matrix/identity/v2/validate/email/submitToken\?.* 200",
        r"GET +/_matrix/identity/v2/3pid/getValidated3pid\?.* 400",
        r"POST /_matrix/identity/v2/3pid/bind +200",
        r"POST /_matrix/identity/v2/lookup +200",
        r"POST /_matrix/identity/v2/3pid/unbind +200",
    ):
        assert re.search(exchange, shown), exchange
    assert f"{len(TOUR)} of {len(TOUR)} steps" in shown


async def look_around(port: int) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as browser:
        page = await browser.get("/")
        assert page.status_code == 200
        assert page.text.count('<li class="done">') == len(TOUR)
        assert "alice@example.org" in page.text
        assert "+447700900001" in page.text
        assert "script" not in page.headers["content-security-policy"]
        mail = await browser.get("/", params={"message": "1"})
        assert "Confirm your email address" in mail.text
        for url in re.findall(r'href="(http://127[^"]+/docs)"', page.text):
            assert (await browser.get(url)).status_code == 200


async def test_a_port_that_is_taken_is_named_in_one_line(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await start("--once", "--port", str(port))
        _, err = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 1
    assert re.fullmatch(rf"error: cannot listen on 127.0.0.1, port {port}: .*in use\n", err.decode())


async def bind_what_is_not_proven(story: Story) -> None:
    await story.alice.identity.bind("nosuchsession", "secret", story.alice.user_id)


async def test_a_step_that_fails_fails_the_demo_and_ends_the_tour() -> None:
    screen = io.StringIO()
    chapters = (*TOUR[:3], Chapter("She binds too early", bind_what_is_not_proven), *TOUR[3:])
    code = await show(Console(file=screen, width=100), once=True, chapters=chapters)
    assert code == 1
    assert re.search(r"^✗ +4 She binds too early", screen.getvalue(), re.MULTILINE)
    assert "M_NO_VALID_SESSION" in screen.getvalue()
    assert TOUR[3].title not in screen.getvalue()
    assert f"3 of {len(chapters)} steps" in screen.getvalue()


async def find_an_address_that_is_nobodys(story: Story) -> None:
    assert await story.bob.identity.lookup([Threepid(MSISDN, "447700900999")]) == {"Alice": "was expected"}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with open_world(0) as world:
        yield world


async def test_a_step_whose_expectation_does_not_hold_fails_and_the_inbox_says_so(world: World) -> None:
    seen: list[tuple[str, str]] = []

    def on_step(entry: Entry) -> None:
        seen.append((entry.title, entry.status))

    chapters = (*TOUR[:3], Chapter("Bob finds nobody", find_an_address_that_is_nobodys), TOUR[4])
    assert not await run_tour(world, SystemEntropy(), chapters, on_step=on_step)
    assert seen[-2:] == [("Bob finds nobody", "running"), ("Bob finds nobody", "failed")]
    assert [entry.status for entry in world.journal.entries] == ["done", "done", "done", "failed", "waiting"]
    async with httpx.AsyncClient(trust_env=False) as browser:
        page = await browser.get(world.inbox_page)
    assert "It failed: AssertionError" in page.text


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
