"""Logging in (Client-Server API, "Login")."""

from identity_server.homeserver.access.issue import issue_token
from identity_server.homeserver.accounts import store
from identity_server.homeserver.accounts.passwords import Passwords
from identity_server.homeserver.accounts.register import InvalidUsername, user_id_for
from identity_server.matrix.errors import Forbidden
from identity_server.runtime.database import Database
from identity_server.runtime.tokens import Entropy

PASSWORD = "m.login.password"


def named_user_id(user: str, server_name: str) -> str:
    """The user ID that ``user`` (itself one, or a localpart) stands for. Raises ``Forbidden`` if it is none of ours."""
    localpart = user
    if user.startswith("@"):
        localpart, _, domain = user[1:].partition(":")
        if domain != server_name:
            raise _refused()
    try:
        return user_id_for(localpart, server_name)
    except InvalidUsername as error:
        raise _refused() from error


async def log_in(
    database: Database,
    passwords: Passwords,
    *,
    user_id: str,
    password: str,
    device: tuple[str | None, str | None],
    entropy: Entropy,
    now_ms: int,
) -> dict[str, str]:
    """``user_id``, ``access_token`` and ``device_id``. Raises ``Forbidden``, the same for nobody's user ID."""
    async with database.reading() as session:
        hashed = await store.password_hash(session, user_id)
    # Between two transactions, since others would wait for as long as it takes.
    if not await passwords.matches(password, hashed):
        raise _refused()
    renewed = await passwords.hash(password) if hashed and passwords.is_outdated(hashed) else None
    async with database.transaction() as session:
        if await store.password_hash(session, user_id) != hashed:
            raise _refused()  # changed meanwhile
        if renewed:
            await store.set_password_hash(session, user_id, renewed)
        return {"user_id": user_id, **await issue_token(session, user_id, *device, entropy=entropy, now_ms=now_ms)}


def _refused() -> Forbidden:
    return Forbidden("Invalid username or password")
