"""Homeservers as operators run them, ours and Synapse, and an identity server that all of them trust: processes on
loopback, under one private authority, with a mail server.
"""

import asyncio
import json
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from benchmarks.processes import of_ours
from benchmarks.synapse import synapse_command, synapse_python, write_synapse_settings
from identity_server.demo.serving import HOST, free_port, listen, port_of, serving
from identity_server.demo.sinks import Inbox, mail_server
from identity_server.runtime.clock import SystemClock
from tests.interop.links import Background, Link
from tests.interop.processes import Process, running

_PATIENCE_SECONDS = 10

OURS, SYNAPSE = "ours", "synapse"


@dataclass(frozen=True)
class Homeserver:
    """``name``: where other servers find it, through ``link``. ``url``: where clients do."""

    software: str
    name: str
    url: str
    link: Link
    process: Process
    log: Path


@dataclass(frozen=True)
class IdentityServer:
    """``name`` is what homeservers and clients call it, with https before it."""

    name: str
    url: str
    log: Path


class World:
    """What is open for a run of tests: servers start when they are first asked for."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._homeservers: dict[str, Homeserver] = {}
        self._identity: IdentityServer | None = None
        self.background = Background()
        stack.callback(self.background.close)
        self._authority = trustme.CA(organization_name="Interop")
        self.ca_file = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(self.ca_file)
        self.trust = ssl.create_default_context(cafile=self.ca_file)
        self.certificate, self.key = folder / "certificate.pem", folder / "key.pem"
        leaf = self._authority.issue_cert("localhost", HOST)
        leaf.private_key_pem.write_to_path(self.key)
        for position, blob in enumerate(leaf.cert_chain_pems):
            blob.write_to_path(self.certificate, append=position > 0)
        self.inbox = Inbox(SystemClock())
        mail, page = listen(), listen()
        self.smtp_port, self.inbox_url = port_of(mail), f"http://{HOST}:{port_of(page)}"
        for opened in (mail_server(self.inbox, mail), serving(inbox_application(self), page)):
            self.background.run(opened.__aenter__())
            stack.callback(lambda opened=opened: self.background.run(opened.__aexit__(None, None, None)))

    @property
    def identity(self) -> IdentityServer:
        if self._identity is None:
            self._identity = self._start_identity_server()
        return self._identity

    def homeserver(self, name: str) -> Homeserver:
        """``name`` begins with the software; each other name is another server."""
        if name not in self._homeservers:
            if name.startswith(SYNAPSE) and synapse_python() is None:
                pytest.skip("Synapse is not installed: pip install matrix-synapse into tests/interop/.synapse")
            folder = self._folder / name.replace(" ", "-")
            if folder.exists():
                pytest.fail(f"{name} could not be started before")
            folder.mkdir()
            start = self._start_synapse if name.startswith(SYNAPSE) else self._start_ours
            self._homeservers[name] = start(folder)
        return self._homeservers[name]

    async def newest_message(self, recipient: str, holding: str = "") -> str:
        """The text of the newest that holds a word, waiting for it if there is none."""
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while True:
                for message in reversed(self.inbox.messages.copy()):
                    if message.recipient == recipient and holding in message.text:
                        return message.text
                await asyncio.sleep(0.02)

    def _link(self) -> Link:
        link = Link(self.background)
        self._stack.callback(link.close)
        return link

    def _start_synapse(self, folder: Path) -> Homeserver:
        python = synapse_python()
        assert python is not None
        link, client_port = self._link(), free_port()
        name, url, log = f"localhost:{link.port}", f"http://{HOST}:{client_port}", folder / "log"
        config = write_synapse_settings(
            folder,
            name=name,
            client_port=client_port,
            federation_port=link.target,
            certificate=self.certificate,
            key=self.key,
            ca_file=self.ca_file,
            smtp_port=self.smtp_port,
        )
        command = synapse_command(python, config)
        process = self._run(command, log, f"{url}/_matrix/client/versions", SSL_CERT_FILE=str(self.ca_file))
        return Homeserver(SYNAPSE, name, url, link, process, log)

    def _start_ours(self, folder: Path) -> Homeserver:
        link, client_port = self._link(), free_port()
        name, url, log = f"localhost:{link.port}", f"http://{HOST}:{client_port}", folder / "log"
        config = folder / "settings.toml"
        config.write_text(
            self._common_settings(folder)
            + f"""
[homeserver]
name = {_quoted(name)}
port = {client_port}
federation_port = {link.target}
tls_certificate = {_quoted(self.certificate)}
tls_key = {_quoted(self.key)}
registration = true
identity_servers = [{_quoted(self.identity.url)}]
"""
        )
        process = self._run(of_ours("homeserver", config), log, f"{url}/_matrix/client/versions")
        return Homeserver(OURS, name, url, link, process, log)

    def _start_identity_server(self) -> IdentityServer:
        folder, port = self._folder / "identity", free_port()
        folder.mkdir()
        name, log, config = f"localhost:{port}", folder / "log", folder / "settings.toml"
        config.write_text(
            self._common_settings(
                folder,
                server=f"""
name = {_quoted(name)}
public_base_url = "https://{name}"
port = {port}
tls_certificate = {_quoted(self.certificate)}
tls_key = {_quoted(self.key)}
""",
            )
            + f"""
[admin]
port = 0

[email]
smtp_url = "smtp://{HOST}:{self.smtp_port}"

[[sms.routes]]
url = "{self.inbox_url.replace("http", "json")}/sms?:from={{originator}}"
originator = "IdServer"
"""
        )
        url = f"https://{name}"
        self._run(of_ours("serve", config), log, f"{url}/_matrix/identity/versions")
        return IdentityServer(name, url, log)

    def _common_settings(self, folder: Path, server: str = "") -> str:
        return f"""
[server]
data_dir = {_quoted(folder / "data")}
{server}

[federation]
ca_file = {_quoted(self.ca_file)}
allowed_private_networks = ["127.0.0.0/8", "::1/128"]

[rate_limits]
enabled = false
"""

    def _run(self, command: list[str | Path], log: Path, answers: str, **environment: str) -> Process:
        process = running(command, log=log, answers=answers, environment=environment, trust=self.trust)
        return self._stack.enter_context(process)


@contextmanager
def open_world(folder: Path) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(folder, stack)


def inbox_application(world: World) -> Starlette:
    """An SMS gateway, and /newest?recipient=…&holding=…, which answers when there is a message that holds the word."""

    async def receive_sms(request: Request) -> Response:
        sms: dict[str, Any] = await request.json()
        await world.inbox.add_sms(sms["from"], sms["to"], sms["message"])
        return Response(status_code=204)

    async def newest(request: Request) -> Response:
        asked = request.query_params
        return JSONResponse({"text": await world.newest_message(asked["recipient"], asked.get("holding", ""))})

    return Starlette(routes=[Route("/sms", receive_sms, methods=["POST"]), Route("/newest", newest)])


def _quoted(value: object) -> str:
    """A JSON string is a TOML string."""
    return json.dumps(str(value))
