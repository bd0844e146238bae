"""Two identity servers that trust each other, two homeservers and an inbox: in one process, one folder, on loopback."""

import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from identity_server.demo.certificate import Certificate, make_certificate
from identity_server.demo.journal import Journal
from identity_server.demo.serving import HOST, free_port, listen, port_of, serving, serving_homeserver
from identity_server.demo.sinks import Inbox, inbox_application, mail_server
from identity_server.demo.trust import befriend
from identity_server.identity.application import identity_application
from identity_server.runtime.clock import SystemClock
from identity_server.runtime.tokens import SystemEntropy
from identity_server.settings import Settings

INBOX_PORT = 8025


@dataclass(frozen=True)
class World:
    """Where everything is (base URLs without trailing slash), and what has arrived and happened."""

    identity_server: str
    identity_server_name: str
    other_identity_server: str
    other_identity_server_name: str
    homeserver: str
    homeserver_name: str
    other_homeserver: str
    other_homeserver_name: str
    inbox_page: str
    inbox: Inbox
    journal: Journal

    @property
    def links(self) -> dict[str, str]:
        return {
            "Identity server API": f"{self.identity_server}/docs",
            "Homeserver API": f"{self.homeserver}/docs",
            "The other homeserver’s": f"{self.other_homeserver}/docs",
        }


class _DemoSettings(Settings):
    """Nothing from the environment: the demo must not end up in the database of a real server."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)


@asynccontextmanager
async def open_world(inbox_port: int | None = None, **sections: Any) -> AsyncIterator[World]:
    """Everything runs until the block ends, and leaves nothing behind.

    ``inbox_port`` is by default 8025, or a free one if that is taken; the other ports are free ones. ``sections`` are
    settings of the identity server that take precedence over the demo's. Raises ``OSError``, ``DidNotStart``.
    """
    clock, journal = SystemClock(), Journal()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="identity-server-demo-")))
        inbox = Inbox(clock)
        mail = stack.enter_context(listen())
        page = stack.enter_context(_inbox_listener(inbox_port))
        identity, other_identity = stack.enter_context(listen()), stack.enter_context(listen())
        ports = [free_port() for _ in range(4)]
        world = World(
            identity_server=f"http://{HOST}:{port_of(identity)}",
            identity_server_name="id.localhost",
            other_identity_server=f"http://{HOST}:{port_of(other_identity)}",
            other_identity_server_name="other-id.localhost",
            homeserver=f"http://{HOST}:{ports[0]}",
            homeserver_name=f"localhost:{ports[1]}",
            other_homeserver=f"http://{HOST}:{ports[2]}",
            other_homeserver_name=f"localhost:{ports[3]}",
            inbox_page=f"http://{HOST}:{port_of(page)}",
            inbox=inbox,
            journal=journal,
        )
        await stack.enter_async_context(mail_server(inbox, mail))
        await stack.enter_async_context(serving(inbox_application(inbox, journal, world.links), page))
        tls = make_certificate(folder)
        shared = {
            "email": {"smtp_url": f"smtp://{HOST}:{port_of(mail)}"},
            "sms": {
                "routes": [{"url": f"json://{HOST}:{port_of(page)}/sms?:from={{originator}}", "originator": "IdServer"}]
            },
            "federation": {
                "ca_file": tls.ca_file,
                "allowed_private_networks": ["127.0.0.0/8", "::1/128"],
            },
            **sections,
        }
        homeservers = (
            (world.homeserver_name, ports[0], world.identity_server),
            (world.other_homeserver_name, ports[2], world.other_identity_server),
        )
        for name, port, trusted in homeservers:
            settings = _homeserver_settings(name, port, trusted, tls, folder, federation=shared["federation"])
            await stack.enter_async_context(serving_homeserver(settings))
        servers = [
            _DemoSettings(**{"server": {"name": name, "public_base_url": url, "data_dir": folder / name}, **shared})
            for name, url in (
                (world.identity_server_name, world.identity_server),
                (world.other_identity_server_name, world.other_identity_server),
            )
        ]
        for settings, listener in zip(servers, (identity, other_identity), strict=True):
            await stack.enter_async_context(serving(identity_application(settings), listener))
        await befriend(servers[0], servers[1], clock, SystemEntropy())
        yield world


def _homeserver_settings(
    name: str, port: int, identity_server: str, tls: Certificate, folder: Path, **sections: Any
) -> Settings:
    """``name`` holds the federation port, ``port`` is the clients'; ``identity_server`` is the one that it trusts."""
    federation_port = int(name.rpartition(":")[2])
    return _DemoSettings(
        server={"data_dir": folder / str(federation_port)},
        homeserver={
            "name": name,
            "bind": HOST,
            "port": port,
            "federation_port": federation_port,
            "tls_certificate": tls.certificate,
            "tls_key": tls.key,
            "registration": True,
            "identity_servers": [identity_server],
        },
        **sections,
    )


def _inbox_listener(port: int | None) -> socket.socket:
    if port is not None:
        return listen(port)
    try:
        return listen(INBOX_PORT)
    except OSError:
        return listen()
