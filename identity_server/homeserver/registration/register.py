"""Becoming a user of this homeserver (Client-Server API, "Account registration")."""

import string
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.access.issue import issue_token
from identity_server.homeserver.access.removal import DeviceWatchers
from identity_server.homeserver.accounts import store
from identity_server.homeserver.accounts.interactive import Attempt, Wanted, finish, prove
from identity_server.homeserver.accounts.passwords import Passwords, hash_new
from identity_server.homeserver.accounts.user_ids import InvalidUsername, user_id_for
from identity_server.homeserver.profiles import store as profiles
from identity_server.homeserver.profiles.fields import DISPLAYNAME
from identity_server.matrix.errors import MatrixError, ThreepidInUse
from identity_server.runtime.database import Database
from identity_server.runtime.tokens import Entropy

_DRAWN_LENGTH = 12


class UserInUse(MatrixError):
    errcode = "M_USER_IN_USE"


async def check_free(session: AsyncSession, user_id: str) -> None:
    """Raises ``UserInUse``, and ``InvalidUsername`` for what is left to application services and this server itself."""
    if user_id.startswith("@_"):
        raise InvalidUsername("A username does not begin with an underscore")
    if await store.is_taken(session, user_id):
        raise UserInUse("The desired user ID is already taken")


async def register_account(
    database: Database,
    passwords: Passwords,
    wanted: Wanted,
    *,
    username: str | None,
    password: str | None,
    attempt: Attempt | None,
    device: tuple[str | None, str | None] | None,
    lifetime_ms: int | None,
    server_name: str,
    entropy: Entropy,
    now_ms: int,
    watchers: DeviceWatchers,
) -> dict[str, Any]:
    """``user_id`` and the deprecated ``home_server``.

    Also what ``issue_token`` gives if a ``device`` (ID, display name) is to be logged in.
    Addresses that were proven on the way belong to the account. Raises ``InvalidUsername``, ``UserInUse``,
    ``MissingParam``, ``WeakPassword``, ``AuthenticationNeeded``, ``ThreepidInUse``.
    """
    if username is None:
        username = entropy.token(_DRAWN_LENGTH, string.ascii_lowercase + string.digits)
    user_id = user_id_for(username, server_name)
    async with database.reading() as session:
        await check_free(session, user_id)
    proof = await prove(database, attempt, wanted, entropy=entropy, now_ms=now_ms)
    # Hashed before the transaction begins, which others wait for.
    hashed = await hash_new(passwords, password)
    async with database.transaction() as session:
        await finish(session, proof)
        if not await store.add_account(session, user_id, hashed, now_ms=now_ms):
            raise UserInUse("The desired user ID is already taken")
        for threepid, validated_ts in proof.threepids:
            if not await store.add_threepid(session, user_id, threepid, validated_ts=validated_ts, now_ms=now_ms):
                raise ThreepidInUse("The address belongs to another account")
        # As clients show a user who has not said otherwise.
        await profiles.set_field(session, user_id, DISPLAYNAME, username)
        login = (
            {}
            if device is None
            else await issue_token(
                session, user_id, *device, entropy=entropy, now_ms=now_ms, lifetime_ms=lifetime_ms, watchers=watchers
            )
        )
    return {"user_id": user_id, "home_server": server_name, **login}
