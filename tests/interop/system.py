"""Both servers as an operator runs them: processes with a settings file, real ports, TLS between them, a mail server
and an SMS gateway."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from identity_server.demo.serving import HOST, free_port, listen, port_of, serving
from identity_server.demo.sinks import Inbox, mail_server
from identity_server.runtime.clock import SystemClock

_START_SECONDS = 60
_STOP_SECONDS = 15


@dataclass(frozen=True)
class System:
    """Base URLs; ``inbox`` answers /newest?recipient=… when there is a message."""

    homeserver: str
    homeserver_name: str
    identity_server: str
    inbox: str
    messages: Inbox


@asynccontextmanager
async def open_system(folder: Path) -> AsyncIterator[System]:
    inbox = Inbox(SystemClock())
    mail, page = listen(), listen()
    ports = {name: free_port() for name in ("identity", "client", "federation")}
    system = System(
        homeserver=f"http://{HOST}:{ports['client']}",
        homeserver_name=f"localhost:{ports['federation']}",
        identity_server=f"http://{HOST}:{ports['identity']}",
        inbox=f"http://{HOST}:{port_of(page)}",
        messages=inbox,
    )
    config = folder / "settings.toml"
    config.write_text(_settings(system, folder, ports, smtp_port=port_of(mail)))
    async with mail_server(inbox, mail), serving(_inbox_application(inbox), page):
        with ExitStack() as processes:
            for command, url in (
                # First the homeserver: it makes the authority that the identity server is to trust.
                ("homeserver", f"{system.homeserver}/_matrix/client/versions"),
                ("serve", f"{system.identity_server}/_matrix/identity/versions"),
            ):
                process = processes.enter_context(_running(command, config, folder / f"{command}.log"))
                await asyncio.to_thread(_until_it_answers, url, process, folder / f"{command}.log")
            yield system


def _settings(system: System, folder: Path, ports: dict[str, int], *, smtp_port: int) -> str:
    quoted = json.dumps  # a JSON string is a TOML string
    return f"""
[server]
name = "id.localhost"
public_base_url = {quoted(system.identity_server)}
port = {ports["identity"]}
data_dir = {quoted(str(folder / "data"))}

[admin]
port = 0

[email]
smtp_url = "smtp://{HOST}:{smtp_port}"

[[sms.routes]]
prefix = "44"
url = "{system.inbox.replace("http", "json")}/sms?:from={{originator}}"
originator = "IdServer"

[terms.policies.privacy]
version = "2"
languages.en = {{ name = "Privacy", url = "https://id.test/privacy-2-en" }}
languages.fr = {{ name = "Confidentialité", url = "https://id.test/privacy-2-fr" }}

[terms.policies.terms]
version = "1"
languages.en = {{ name = "Terms", url = "https://id.test/terms-1-en" }}

[federation]
ca_file = {quoted(str(folder / "data" / "homeserver" / "ca.pem"))}
allowed_private_networks = ["127.0.0.0/8", "::1/128"]

[homeserver]
name = {quoted(system.homeserver_name)}
port = {ports["client"]}
federation_port = {ports["federation"]}
registration = true
identity_servers = [{quoted(system.identity_server)}]
"""


def _inbox_application(inbox: Inbox) -> Starlette:
    async def receive_sms(request: Request) -> Response:
        sms: dict[str, Any] = await request.json()
        await inbox.add_sms(sms["from"], sms["to"], sms["message"])
        return Response(status_code=204)

    async def newest(request: Request) -> Response:
        message = await inbox.newest_for(request.query_params["recipient"])
        return JSONResponse({"text": message.text})

    return Starlette(routes=[Route("/sms", receive_sms, methods=["POST"]), Route("/newest", newest)])


@contextmanager
def _running(command: str, config: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "identity_server.cli", "--config", config, command],
            stdout=output,
            stderr=subprocess.STDOUT,
            # Settings from the environment would win over the file.
            env={name: value for name, value in os.environ.items() if not name.startswith("IDENTITY_SERVER_")},
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _until_it_answers(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urlopen(url, timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.05)
    raise AssertionError(f"the process did not come up:\n{log.read_text()}")
