"""How users are named when they log in (Client-Server API, "Identifier types")."""

from pydantic import ConfigDict
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.accounts import store
from identity_server.homeserver.accounts.user_ids import InvalidUsername, user_id_for
from identity_server.matrix.errors import Forbidden, MatrixError, MissingParam
from identity_server.matrix.identifiers import Text
from identity_server.matrix.threepid import MSISDN, Threepid, canonical, canonical_msisdn
from identity_server.runtime.requests import Body


class UserIdentifier(Body):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    type: str = ""
    user: Text | None = None
    medium: Text | None = None
    address: Text | None = None
    country: Text | None = None
    phone: Text | None = None
    number: Text | None = None
    """What older clients call ``phone``."""


def refused() -> Forbidden:
    """The same whatever was wrong."""
    return Forbidden("Invalid username or password")


async def named_user(session: AsyncSession, identifier: UserIdentifier, server_name: str) -> str:
    """The user ID that ``identifier`` stands for, of an account or not.

    Raises ``MissingParam``, ``MatrixError`` for an unknown type, ``Forbidden`` if it can be nobody here.
    """
    match identifier:
        case UserIdentifier(type="m.id.user", user=str(user)):
            return named_user_id(user, server_name)
        case UserIdentifier(type="m.id.thirdparty" | "", medium=str(medium), address=str(address)):
            return await _owner(session, medium, address)
        case UserIdentifier(type="m.id.phone", country=str(country)) if number := identifier.phone or identifier.number:
            try:
                digits = canonical_msisdn(country.upper(), number)
            except MatrixError as error:
                raise refused() from error
            return await _owner(session, MSISDN, digits)
        case UserIdentifier(type="m.id.user" | "m.id.thirdparty" | "m.id.phone"):
            raise MissingParam("The identifier lacks what its type asks for")
    raise MatrixError("Unknown identifier type")


def named_user_id(user: str, server_name: str) -> str:
    """The user ID that ``user`` (itself one, or a localpart) stands for. Raises ``Forbidden`` if it is none of ours."""
    localpart = user
    if user.startswith("@"):
        localpart, _, domain = user[1:].partition(":")
        if domain != server_name:
            raise refused()
    try:
        return user_id_for(localpart, server_name)
    except InvalidUsername as error:
        raise refused() from error


async def _owner(session: AsyncSession, medium: str, address: str) -> str:
    try:
        threepid: Threepid = canonical(medium, address)
    except MatrixError as error:
        raise refused() from error
    user_id = await store.owner_of(session, threepid)
    if user_id is None:
        # "In the case that the homeserver does not know about the supplied 3PID" it is 403 ("Login").
        raise refused()
    return user_id
