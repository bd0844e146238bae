"""Becoming a user of this homeserver (Client-Server API, "Account registration")."""

import re
import string

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.access.issue import issue_token
from identity_server.homeserver.accounts import store
from identity_server.homeserver.accounts.interactive import DUMMY, Attempt, pass_dummy, prove
from identity_server.homeserver.accounts.passwords import Passwords
from identity_server.matrix.errors import MatrixError, MissingParam
from identity_server.runtime.database import Database
from identity_server.runtime.tokens import Entropy

_FLOWS = ((DUMMY,),)
_STAGES = {DUMMY: pass_dummy}

# Appendices, "User Identifiers".
_LOCALPART = re.compile(r"[a-z0-9._=/+-]+")
_DRAWN_LENGTH = 12


class InvalidUsername(MatrixError):
    errcode = "M_INVALID_USERNAME"


class UserInUse(MatrixError):
    errcode = "M_USER_IN_USE"


class WeakPassword(MatrixError):
    errcode = "M_WEAK_PASSWORD"


def user_id_for(username: str, server_name: str) -> str:
    """The user ID that ``username`` (a localpart, in whatever case) asks for. Raises ``InvalidUsername``."""
    localpart = username.lower()
    if not _LOCALPART.fullmatch(localpart):
        raise InvalidUsername("A username consists of a-z, 0-9 and . _ = - / +")
    user_id = f"@{localpart}:{server_name}"
    if len(user_id) > 255:
        raise InvalidUsername("The username is too long")
    return user_id


async def check_free(session: AsyncSession, user_id: str) -> None:
    """Raises ``UserInUse``."""
    if await store.is_taken(session, user_id):
        raise UserInUse("The desired user ID is already taken")


async def register_account(
    database: Database,
    passwords: Passwords,
    *,
    username: str | None,
    password: str | None,
    attempt: Attempt | None,
    device: tuple[str | None, str | None] | None,
    server_name: str,
    entropy: Entropy,
    now_ms: int,
) -> dict[str, str]:
    """``user_id``; also ``access_token`` and ``device_id`` if a ``device`` (ID, display name) is to be logged in.

    Raises ``InvalidUsername``, ``UserInUse``, ``MissingParam``, ``WeakPassword`` and ``AuthenticationNeeded``.
    """
    if username is None:
        username = entropy.token(_DRAWN_LENGTH, string.ascii_lowercase + string.digits)
    user_id = user_id_for(username, server_name)
    async with database.reading() as session:
        await check_free(session, user_id)
    # Hashed before the transaction begins, which others wait for. Nothing is hashed for a request without `auth`.
    hashed = await _hash(passwords, password) if attempt else ""
    async with database.transaction() as session:
        await prove(
            session, attempt, operation="register", flows=_FLOWS, stages=_STAGES, entropy=entropy, now_ms=now_ms
        )
        if not await store.add_account(session, user_id, hashed, now_ms=now_ms):
            raise UserInUse("The desired user ID is already taken")
        login = {} if device is None else await issue_token(session, user_id, *device, entropy=entropy, now_ms=now_ms)
    return {"user_id": user_id, **login}


async def _hash(passwords: Passwords, password: str | None) -> str:
    if password is None:
        raise MissingParam("A password is required")
    if not password:
        raise WeakPassword("The password is empty")
    return await passwords.hash(password)
