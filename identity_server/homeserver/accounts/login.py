"""Logging in (Client-Server API, "Login")."""

from typing import Any

from identity_server.homeserver.access.issue import issue_token
from identity_server.homeserver.access.removal import DeviceWatchers
from identity_server.homeserver.accounts import store
from identity_server.homeserver.accounts.identifiers import refused
from identity_server.homeserver.accounts.login_tokens import Ticket
from identity_server.homeserver.accounts.passwords import Passwords
from identity_server.matrix.errors import Forbidden
from identity_server.matrix.identifiers import domain_of
from identity_server.runtime.database import Database
from identity_server.runtime.rate_limits import RateLimits
from identity_server.runtime.tokens import Entropy


class UserDeactivated(Forbidden):
    errcode = "M_USER_DEACTIVATED"


async def check_password(
    database: Database, passwords: Passwords, limits: RateLimits, user_id: str, password: str
) -> str:
    """The hash that ``password`` matches.

    Raises ``Forbidden``, the same for nobody's user ID, ``UserDeactivated``, and ``LimitExceeded`` for who guesses.
    """
    await limits.check("login_per_user", user_id)
    async with database.reading() as session:
        account = await store.find_account(session, user_id)
    if account and account.deactivated_ts is not None:
        raise UserDeactivated("The account has been deactivated")
    # Between two transactions, since others would wait for as long as it takes.
    hashed = account.password_hash if account else None
    if not await passwords.matches(password, hashed) or hashed is None:
        await limits.hit("login_per_user", user_id)
        raise refused()
    return hashed


async def log_in(
    database: Database,
    passwords: Passwords,
    limits: RateLimits,
    *,
    user_id: str,
    password: str,
    device: tuple[str | None, str | None],
    lifetime_ms: int | None,
    entropy: Entropy,
    now_ms: int,
    watchers: DeviceWatchers,
) -> dict[str, Any]:
    """``user_id``, the deprecated ``home_server``, ``access_token``, ``device_id``.

    And what ``issue_token`` adds for a ``lifetime_ms``.

    Raises as ``check_password``.
    """
    hashed = await check_password(database, passwords, limits, user_id, password)
    renewed = await passwords.hash(password) if passwords.is_outdated(hashed) else None
    async with database.transaction() as session:
        if await store.password_hash(session, user_id) != hashed:
            raise refused()  # changed meanwhile
        if renewed:
            await store.set_password_hash(session, user_id, renewed)
        tokens = await issue_token(
            session, user_id, *device, entropy=entropy, now_ms=now_ms, lifetime_ms=lifetime_ms, watchers=watchers
        )
    return {"user_id": user_id, "home_server": domain_of(user_id), **tokens}


async def log_in_by_token(
    database: Database,
    ticket: Ticket | None,
    *,
    device: tuple[str | None, str | None],
    lifetime_ms: int | None,
    entropy: Entropy,
    now_ms: int,
    watchers: DeviceWatchers,
) -> dict[str, Any]:
    """As ``log_in``, for what a login token was made for. Raises ``Forbidden``."""
    if ticket is None:
        raise Forbidden("The login token is unknown, or has been used or expired")
    async with database.transaction() as session:
        account = await store.find_account(session, ticket.user_id)
        if account is None or account.deactivated_ts is not None or account.password_hash != ticket.password_hash:
            raise Forbidden("The login token is not valid any more")
        tokens = await issue_token(
            session, ticket.user_id, *device, entropy=entropy, now_ms=now_ms, lifetime_ms=lifetime_ms, watchers=watchers
        )
    return {"user_id": ticket.user_id, "home_server": domain_of(ticket.user_id), **tokens}
