"""This homeserver's own account at identity servers, for what it asks of them in nobody else's name.

Somebody who registers or resets a password has no account that could have an address validated. So the homeserver
has one: of a user ID that nobody can have, vouched for as anybody's is, by an OpenID token of our own. It works with
every identity server, this project's and others' (docs/decisions).
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

from identity_server.homeserver.openid.issue import issue_openid_token
from identity_server.homeserver.validation import store
from identity_server.homeserver.validation.trusted import TrustedServers
from identity_server.matrix.errors import BadGateway, PassedOn
from identity_server.matrix.http import Http, Unreachable
from identity_server.matrix.identity_client import IdentityClient
from identity_server.matrix.json_api import GuardedApi, Refused
from identity_server.matrix.single_flight import SingleFlight
from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database
from identity_server.runtime.dependencies import opened
from identity_server.runtime.tokens import Entropy

RESERVED_LOCALPART = "_identity"
"""Of the account's user ID; nobody can register it."""

_Answer = TypeVar("_Answer")


class OwnAccount:
    def __init__(
        self,
        database: Database,
        http: Http,
        trusted: TrustedServers,
        *,
        server_name: str,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self.trusted = trusted
        self._database = database
        self._http = http
        self._server_name = server_name
        self._clock = clock
        self._entropy = entropy
        self._registering: SingleFlight[str, str] = SingleFlight()

    async def ask(self, base_url: str, act: Callable[[IdentityClient], Awaitable[_Answer]]) -> _Answer:
        """What ``act`` returns with a client of the server, which is registered, and whose terms are accepted.

        Raises ``BadGateway`` if the server does not answer, ``PassedOn`` if it refuses. Not for inside a transaction:
        the identity server asks this server back.
        """
        try:
            client = IdentityClient(GuardedApi(self._http, base_url, await self._token(base_url)))
            try:
                return await act(client)
            except Refused as refusal:
                if refusal.errcode == "M_TERMS_NOT_SIGNED":
                    # Whoever configures an identity server has this server use it on its terms.
                    await _accept_terms(client)
                elif refusal.status == 401:
                    await self._forget(base_url, client.api.token)
                    client.api.token = await self._token(base_url)
                else:
                    raise
            return await act(client)
        except Unreachable as error:
            raise BadGateway("The identity server cannot be reached") from error
        except Refused as refusal:
            raise passed_on(refusal) from refusal

    async def _token(self, base_url: str) -> str:
        async with self._database.reading() as session:
            token = await store.token_at(session, base_url)
        return token or await self._registering.run(base_url, lambda: self._register(base_url))

    async def _register(self, base_url: str) -> str:
        now_ms = self._clock.now_ms()
        async with self._database.transaction() as session:
            proof = await issue_openid_token(
                session,
                f"@{RESERVED_LOCALPART}:{self._server_name}",
                server_name=self._server_name,
                entropy=self._entropy,
                now_ms=now_ms,
            )
        client = IdentityClient(GuardedApi(self._http, base_url))
        token = await client.register(proof)
        await _accept_terms(client)
        async with self._database.transaction() as session:
            await store.set_token(session, base_url, token, now_ms=now_ms)
        return token

    async def _forget(self, base_url: str, token: str | None) -> None:
        async with self._database.transaction() as session:
            await store.remove_token(session, base_url, token or "")


async def _accept_terms(client: IdentityClient) -> None:
    """One language's document stands for all of a policy."""
    policies = await client.terms()
    if urls := [next(iter(policy.texts.values()))["url"] for policy in policies if policy.texts]:
        await client.accept_terms(urls)


def passed_on(refusal: Refused) -> PassedOn:
    """A server's refusal, as an answer of ours: what concerns only us and the server becomes 502."""
    is_ours_alone = refusal.status == 401 or refusal.errcode in ("M_UNRECOGNIZED", "M_UNKNOWN")
    if is_ours_alone or refusal.status >= 500:
        return PassedOn(502, refusal.errcode, refusal.message)
    return PassedOn(max(refusal.status, 400), refusal.errcode, refusal.message)


OpenOwnAccount = Annotated[OwnAccount, opened("own_account")]
