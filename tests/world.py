"""An identity server under test: a running application, everything about it that a test may turn, and a client."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from httpx import ASGITransport, AsyncClient
from starlette.types import ASGIApp

from identity_server.identity.delivery.outlet import RecordingOutlet
from identity_server.matrix.errors import Unauthorized
from identity_server.matrix.identifiers import domain_of
from identity_server.runtime.clock import FakeClock
from identity_server.runtime.database import Database
from identity_server.runtime.tokens import FakeEntropy
from identity_server.settings import Settings


class Homeservers:
    """Stands for every homeserver there is: an OpenID token is vouched for if it reads "openid:<user ID>"."""

    def __init__(self) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []

    async def userinfo(self, server_name: str, openid_token: str) -> str:
        user_id = openid_token.removeprefix("openid:")
        if user_id == openid_token or domain_of(user_id) != server_name:
            raise Unauthorized("The homeserver does not vouch for this token")
        return user_id

    async def onbind(self, server_name: str, body: dict[str, Any]) -> None:
        self.told.append((server_name, body))


class IdentityServer:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.clock = FakeClock()
        self.entropy = FakeEntropy()
        self.outlet = RecordingOutlet()
        self.homeservers = Homeservers()
        self.state: dict[str, Any] = {}
        self.client: AsyncClient
        self.app: ASGIApp

    @property
    def database(self) -> Database:
        database: Database = self.state["resources"].database
        return database

    async def told(self) -> list[tuple[str, dict[str, Any]]]:
        """What the homeservers have been told, once they have been."""
        async with asyncio.timeout(10):
            while not self.homeservers.told:
                await asyncio.sleep(0.01)
        return self.homeservers.told

    async def account(self, user_id: str = "@alice:hs.test") -> dict[str, str]:
        """The headers of somebody who has just registered."""
        answer = await self.client.post(
            "/_matrix/identity/v2/account/register",
            json={"access_token": f"openid:{user_id}", "matrix_server_name": domain_of(user_id)},
        )
        assert answer.status_code == 200, answer.text
        return {"Authorization": f"Bearer {answer.json()['token']}"}

    async def proven(
        self, headers: dict[str, str], address: str = "alice@example.org", client_secret: str = "secret"
    ) -> dict[str, str]:
        """The ``sid`` and ``client_secret`` of a session that has proven ``address``."""
        answer = await self.client.post(
            "/_matrix/identity/v2/validate/email/requestToken",
            json={"email": address, "client_secret": client_secret, "send_attempt": 1},
            headers=headers,
        )
        assert answer.status_code == 200, answer.text
        session = {"sid": answer.json()["sid"], "client_secret": client_secret}
        answer = await self.client.post(
            "/_matrix/identity/v2/validate/email/submitToken",
            json={**session, "token": self.outlet.sent[-1].context["token"]},
            headers=headers,
        )
        assert answer.json() == {"success": True}
        return session

    async def bound(
        self, user_id: str = "@alice:hs.test", address: str = "alice@example.org", client_secret: str = "secret"
    ) -> dict[str, str]:
        """The headers of ``user_id``, to whom ``address`` is bound."""
        headers = await self.account(user_id)
        session = await self.proven(headers, address, client_secret)
        answer = await self.client.post(
            "/_matrix/identity/v2/3pid/bind", json={**session, "mxid": user_id}, headers=headers
        )
        assert answer.status_code == 200, answer.text
        return headers

    async def found(self, headers: dict[str, str], *addresses: str, medium: str = "email") -> dict[str, str]:
        """A hashed lookup, as a client does it: from each of ``addresses`` that is bound to its user ID."""
        details = (await self.client.get("/_matrix/identity/v2/hash_details", headers=headers)).json()
        pepper = details["lookup_pepper"]
        hashes = {hashed(address, medium, pepper): address for address in addresses}
        answer = await self.client.post(
            "/_matrix/identity/v2/lookup",
            json={"algorithm": "sha256", "pepper": pepper, "addresses": list(hashes)},
            headers=headers,
        )
        assert answer.status_code == 200, answer.text
        return {hashes[hash_]: user_id for hash_, user_id in answer.json()["mappings"].items()}


def hashed(address: str, medium: str, pepper: str) -> str:
    digest = hashlib.sha256(f"{address} {medium} {pepper}".encode()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[tuple[dict[str, Any], AsyncClient]]:
    """The application's lifespan, as a server would run it, and a client that speaks to it."""
    inner: Any = app
    while hasattr(inner, "_app"):
        inner = inner._app
    async with inner.router.lifespan_context(inner) as state:

        async def with_state(scope: Any, receive: Any, send: Any) -> None:
            scope["state"] = dict(state)
            await app(scope, receive, send)

        transport = ASGITransport(with_state, raise_app_exceptions=False)
        async with AsyncClient(transport=transport, base_url="https://is.test") as client:
            yield state, client


MakeServer = Callable[..., AbstractAsyncContextManager[IdentityServer]]
