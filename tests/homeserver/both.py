"""The homeserver and the identity server, each reached by the other as over the network, without one."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from argon2 import PasswordHasher
from httpx import ASGITransport, AsyncClient

from identity_server.homeserver.accounts.passwords import Passwords
from identity_server.homeserver.application import homeserver_application, open_homeserver
from identity_server.homeserver.serve import opened
from identity_server.matrix.errors import Unauthorized
from identity_server.matrix.http import Answer, Endpoint, Unreachable
from identity_server.matrix.server_keys import RemoteKeys
from identity_server.runtime.clock import Clock
from identity_server.runtime.tokens import FakeEntropy, SystemEntropy
from identity_server.settings import Settings
from tests.world import IdentityServer, serving

CHEAP = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)


class InProcessHttp:
    """The protocol's ``Http`` to applications in this process, by host name; nobody else is there."""

    def __init__(self) -> None:
        self.clients: dict[str, AsyncClient] = {}

    async def request(
        self,
        method: str,
        target: Endpoint | str,
        path: str = "",
        *,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        redirects: int = 0,
        timeout_ms: int | None = None,
        max_bytes: int = 1024 * 1024,
    ) -> Answer:
        url = target if isinstance(target, str) else f"https://{target.host_header}{path}"
        client = self.clients.get(urlsplit(url).netloc)
        if client is None:
            raise Unreachable("nobody is there")
        answer = await client.request(method, url, json=json, headers=dict(headers or {}))
        return Answer(answer.status_code, dict(answer.headers), answer.content)


class OneHomeserver:
    """What the identity server asks of homeservers, where there is this one only."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self.was_told = asyncio.Event()
        """That somebody has bound an address, and has answered."""

    async def userinfo(self, server_name: str, openid_token: str) -> str:
        url = "/_matrix/federation/v1/openid/userinfo"
        answer = await self._client.get(url, params={"access_token": openid_token})
        if answer.status_code != 200:
            raise Unauthorized("The homeserver does not vouch for this token")
        return str(answer.json()["sub"])

    async def onbind(self, server_name: str, body: dict[str, Any]) -> None:
        answer = await self._client.put("/_matrix/federation/v1/3pid/onbind", json=body)
        assert answer.status_code == 200, answer.text
        self.was_told.set()

    async def server_keys(self, server_name: str) -> Any:
        return (await self._client.get("/_matrix/key/v2/server")).json()


class Both:
    def __init__(
        self,
        client: AsyncClient,
        state: dict[str, Any],
        identity: IdentityServer,
        http: InProcessHttp,
        homeserver: OneHomeserver,
    ) -> None:
        self.client = client
        self.state = state
        self.identity = identity
        self.http = http
        self.homeserver = homeserver

    @property
    def newest_token(self) -> str:
        """That of the last message."""
        return str(self.identity.outlet.sent[-1].context["token"])

    async def prove_email(self, sid: str, client_secret: str) -> None:
        """As the page behind the link of the last mail does."""
        own, token = self.state["own_account"], self.newest_token
        await own.ask("https://is.test", lambda client: client.submit_token("email", sid, client_secret, token))

    async def identity_token(self, login: Mapping[str, Any]) -> str:
        """A token of the user at the identity server."""
        headers = {"Authorization": f"Bearer {login['access_token']}"}
        url = f"/_matrix/client/v3/user/{login['user_id']}/openid/request_token"
        proof = (await self.client.post(url, json={}, headers=headers)).json()
        answer = await self.identity.client.post("/_matrix/identity/v2/account/register", json=proof)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["token"])


@asynccontextmanager
async def open_both(
    homeserver_settings: Settings, identity_settings: Settings, identity_application: Any, clock: Clock
) -> AsyncIterator[Both]:
    http = InProcessHttp()
    passwords = Passwords(SystemEntropy(), CHEAP)
    async with open_homeserver(
        homeserver_settings, clock=clock, entropy=FakeEntropy(), passwords=passwords, http=http
    ) as state:
        transport = ASGITransport(opened(homeserver_application(homeserver_settings), state))
        async with AsyncClient(transport=transport, base_url="http://hs.test") as client:
            told = OneHomeserver(client)
            identity = IdentityServer(identity_settings)
            app = identity_application(
                identity_settings,
                clock=clock,
                entropy=identity.entropy,
                outlet=identity.outlet,
                homeservers=told,
                remote_keys=RemoteKeys(told),
            )
            async with serving(app) as (identity.state, identity.client):
                http.clients["is.test"] = identity.client
                yield Both(client, state, identity, http, told)
