"""Asking a user who is logged in for the password once more, before something that a stolen token must not do."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends
from pydantic import ValidationError

from identity_server.homeserver.accounts.identifiers import UserIdentifier, named_user
from identity_server.homeserver.accounts.interactive import (
    PASSWORD,
    Attempt,
    EndsRequest,
    Proof,
    Wanted,
    prove,
)
from identity_server.homeserver.accounts.login import check_password
from identity_server.homeserver.accounts.passwords import OpenPasswords, Passwords
from identity_server.matrix.errors import Forbidden, InvalidParam, MissingParam
from identity_server.runtime.database import Database
from identity_server.runtime.dependencies import Limits, Now, OpenDatabase, OpenSettings, Random
from identity_server.runtime.rate_limits import RateLimits
from identity_server.runtime.tokens import Entropy


@dataclass(frozen=True)
class Confirmation:
    """User-Interactive Authentication of one request by ``m.login.password``; ask for it as ``Confirm``.

    ```
    async def upload(body: dict[str, Any], user: CurrentUser, confirm: Confirm, session: Transaction) -> ...:
        proof = await confirm.user(user.user_id, attempt_in(body), "POST /keys/device_signing/upload")
        await finish(session, proof)  # then whatever was asked for, in the same transaction
    ```
    """

    database: Database
    passwords: Passwords
    limits: RateLimits
    server_name: str
    entropy: Entropy
    now_ms: int

    async def user(self, user_id: str, attempt: Attempt | None, operation: str) -> Proof:
        """The proof that ``user_id`` asks for ``operation`` (as told in words: a session serves no other).

        Raises ``AuthenticationNeeded`` (the 401 that says what is asked for) until the password is given, and
        ``Forbidden`` (403) if it is somebody else's. Call it before the session's first statement.
        """

        async def pass_password(attempt: Attempt) -> None:
            await self.check_password(user_id, attempt)

        wanted = Wanted(f"{operation} {user_id}", ((PASSWORD,),), {PASSWORD: pass_password})
        return await prove(self.database, attempt, wanted, entropy=self.entropy, now_ms=self.now_ms)

    async def check_password(self, user_id: str, attempt: Attempt) -> None:
        """Raises ``Forbidden``, ``MissingParam``, ``InvalidParam``, ``LimitExceeded`` and ``EndsRequest``."""
        password = attempt.also("password")
        if password is None:
            raise MissingParam("auth.password is missing")
        if not isinstance(password, str) or len(password) > 512:
            raise InvalidParam("auth.password is not a password")
        if await self._named(attempt, user_id) != user_id:
            raise EndsRequest(Forbidden("The request is another user's"))
        await check_password(self.database, self.passwords, self.limits, user_id, password)

    async def _named(self, attempt: Attempt, default: str) -> str:
        named: Any = attempt.also("identifier")
        if named is None:
            user = attempt.also("user")  # deprecated
            if user is None:
                return default
            named = {"type": "m.id.user", "user": user}
        try:
            identifier = UserIdentifier.model_validate(named)
        except ValidationError as error:
            raise InvalidParam("auth.identifier is not an identifier") from error
        async with self.database.reading() as session:
            return await named_user(session, identifier, self.server_name)


async def _confirmation(
    database: OpenDatabase,
    passwords: OpenPasswords,
    limits: Limits,
    settings: OpenSettings,
    entropy: Random,
    now_ms: Now,
) -> Confirmation:
    return Confirmation(database, passwords, limits, settings.homeserver.name, entropy, now_ms)


Confirm = Annotated[Confirmation, Depends(_confirmation)]
