"""What somebody needs of a homeserver to be known to an identity server (Client-Server API).

Every method raises ``Refused`` when the server answers with an error, and ``Unreachable`` when it does not answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from identity_server.matrix.json_api import JsonApi, Refused, text_of

_V3 = "/_matrix/client/v3"


@dataclass(frozen=True)
class Discovered:
    """Base URLs that a domain recommends to clients; the second is optional."""

    homeserver: str
    identity_server: str | None


async def discover(api: JsonApi) -> Discovered | None:
    """What the domain at ``api.base_url`` says in /.well-known/matrix/client ("Server Discovery"); None: nothing."""
    try:
        answer = await api.call("GET", "/.well-known/matrix/client")
    except Refused:
        return None
    homeserver = _base_url(answer, "m.homeserver")
    return Discovered(homeserver, _base_url(answer, "m.identity_server")) if homeserver else None


class HomeserverClient:
    """Speaks to one homeserver for one user, once somebody is registered or logged in, or ``api.token`` is set."""

    def __init__(self, api: JsonApi) -> None:
        self.api = api

    async def request_registration_token(self, email: str, client_secret: str, send_attempt: int = 1) -> str:
        """Have a token sent to ``email``; the ``sid`` of the session that it validates, for ``register``."""
        wanted = {"email": email, "client_secret": client_secret, "send_attempt": send_attempt}
        return text_of(await self.api.call("POST", f"{_V3}/register/email/requestToken", wanted), "sid")

    async def register(self, username: str, password: str, *, email_session: tuple[str, str] | None = None) -> str:
        """A new account, and its user ID, where no more is asked than ``m.login.dummy``, or than an email address:
        ``email_session`` are the ``sid`` and ``client_secret`` that proved one.
        """
        wanted: dict[str, Any] = {"username": username, "password": password}
        try:
            answer = await self.api.call("POST", f"{_V3}/register", wanted)
        except Refused as error:
            # The first answer of User-Interactive Authentication: which stages there are, and for which session.
            if error.status != 401 or "session" not in error.body:
                raise
            wanted["auth"] = {**_proof(email_session), "session": error.body["session"]}
            answer = await self.api.call("POST", f"{_V3}/register", wanted)
        return self._logged_in(answer)

    async def log_in(self, user: str, password: str, device_name: str) -> str:
        """A new device of ``user``, which is a user ID or its localpart; the user ID."""
        wanted = {
            "type": "m.login.password",
            "identifier": {"type": "m.id.user", "user": user},
            "password": password,
            "initial_device_display_name": device_name,
        }
        return self._logged_in(await self.api.call("POST", f"{_V3}/login", wanted))

    async def who_am_i(self) -> str:
        return text_of(await self.api.call("GET", f"{_V3}/account/whoami"), "user_id")

    async def openid_token(self, user_id: str) -> dict[str, Any]:
        """A token that proves to an identity server that its bearer is ``user_id`` ("OpenID")."""
        return await self.api.call("POST", f"{_V3}/user/{quote(user_id, safe='@:')}/openid/request_token", {})

    async def log_out(self) -> None:
        await self.api.call("POST", f"{_V3}/logout", {})
        self.api.token = None

    def _logged_in(self, answer: Mapping[str, Any]) -> str:
        self.api.token = text_of(answer, "access_token")
        return text_of(answer, "user_id")


def _proof(email_session: tuple[str, str] | None) -> dict[str, Any]:
    if email_session is None:
        return {"type": "m.login.dummy"}
    sid, client_secret = email_session
    return {"type": "m.login.email.identity", "threepid_creds": {"sid": sid, "client_secret": client_secret}}


def _base_url(answer: Mapping[str, Any], name: str) -> str | None:
    value = answer.get(name)
    base_url = value.get("base_url") if isinstance(value, dict) else None
    return base_url.rstrip("/") if isinstance(base_url, str) else None
