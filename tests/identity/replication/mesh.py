"""Several identity servers in one process that reach each other as over HTTP, and a network that can be cut."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from httpx import ASGITransport, AsyncClient
from starlette.types import ASGIApp

from identity_server.identity.application import identity_application
from identity_server.identity.replication.membership import add_peer, introduce
from identity_server.identity.replication.rules import Rules
from identity_server.matrix.http import Answer, Unreachable
from identity_server.settings import Settings
from tests.world import IdentityServer, serving


@dataclass
class Network:
    """Carries requests to the applications by their base URLs, unless the way is cut; ``log`` keeps what went over."""

    apps: dict[str, ASGIApp] = field(default_factory=dict)
    cut: set[str] = field(default_factory=set)
    log: list[tuple[str, str, Any]] = field(default_factory=list)
    tamper: Callable[[str, Any], Any] = lambda _url, body: body

    async def request(
        self,
        method: str,
        target: Any,
        path: str = "",
        *,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        redirects: int = 0,
        max_bytes: int = 0,
    ) -> Answer:
        host = target.split("/")[2]
        if host in self.cut or host not in self.apps:
            raise Unreachable(f"{host}: no way there")
        self.log.append((method, target, json))
        # httpx would unpack what was packed; here the client has to.
        transport = ASGITransport(self.apps[host], raise_app_exceptions=False)
        async with (
            AsyncClient(transport=transport) as client,
            client.stream(method, target, json=self.tamper(target, json), headers=dict(headers or {})) as answer,
        ):
            body = b"".join([chunk async for chunk in answer.aiter_raw()])
            return Answer(answer.status_code, dict(answer.headers), body)


@dataclass
class Mesh:
    network: Network
    servers: dict[str, IdentityServer]

    def __getitem__(self, name: str) -> IdentityServer:
        return self.servers[name]

    async def introduce(self, one: str, other: str, rules: Rules | None = None) -> None:
        """Let ``one`` trust ``other``."""
        server = self.servers[one]
        keys = await introduce(server.state["peers"]._client, f"https://{other}", other)
        async with server.database.transaction() as session:
            await add_peer(
                session,
                other,
                f"https://{other}",
                keys,
                rules=rules or Rules(),
                expires_ts=None,
                now_ms=server.clock.now_ms(),
            )

    async def befriend(self) -> None:
        """Everybody trusts everybody."""
        for one in self.servers:
            for other in self.servers:
                if one != other:
                    await self.introduce(one, other)

    async def at_rest(self) -> None:
        """Until everybody has what everybody stated (whom the network reaches)."""
        for _ in range(3):
            for server in self.servers.values():
                server.clock.advance(seconds=600)
                exchange = server.state["exchange"]
                await exchange.run(0)
                for turn in list(exchange._turns.values()):
                    await turn


@asynccontextmanager
async def open_mesh(
    names: list[str], new_database_url: Callable[[], Awaitable[str]], folder: Path, **sections: Any
) -> AsyncIterator[Mesh]:
    network = Network()
    async with AsyncExitStack() as stack:
        servers = {}
        for name in names:
            settings = Settings(
                **{
                    "server": {"name": name, "public_base_url": f"https://{name}", "data_dir": folder / name},
                    "database": {"url": await new_database_url()},
                    "rate_limits": {"enabled": False},
                    **sections,
                }
            )
            server = IdentityServer(settings)
            server.entropy = type(server.entropy)(seed=len(servers))
            app = identity_application(
                settings,
                clock=server.clock,
                entropy=server.entropy,
                outlet=server.outlet,
                homeservers=server.homeservers,
                http=network,
                background=False,
            )
            server.app = app
            server.state, server.client = await stack.enter_async_context(serving(app))
            network.apps[name] = with_state(server)
            servers[name] = server
        yield Mesh(network, servers)


def with_state(server: IdentityServer) -> ASGIApp:
    """The server's application with the state as it is now."""
    app = server.app

    async def handle(scope: Any, receive: Any, send: Any) -> None:
        scope["state"] = dict(server.state)
        await app(scope, receive, send)

    return handle
