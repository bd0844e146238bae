"""Which profile fields there are, and what may stand in them (Client-Server API, "Profiles")."""

import re
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.profiles import store
from identity_server.matrix.canonical_json import NotCanonical, canonical_json
from identity_server.matrix.errors import BadJson, InvalidParam, MatrixError

DISPLAYNAME = "displayname"
AVATAR_URL = "avatar_url"

_LONGEST_KEY = 255
_LARGEST_PROFILE = 65_536
# Far more than a client shows, and member events that repeat them stay small.
_LONGEST = {DISPLAYNAME: 256, AVATAR_URL: 1000, "m.tz": 255}
# Appendices, "Common Namespaced Identifier Grammar".
_KEY = re.compile(r"[a-z][a-z0-9._-]*")


class ProfileTooLarge(MatrixError):
    errcode = "M_PROFILE_TOO_LARGE"


class KeyTooLarge(MatrixError):
    errcode = "M_KEY_TOO_LARGE"


def check_key(field: str) -> None:
    """Raises ``KeyTooLarge`` and ``InvalidParam``."""
    if len(field.encode()) > _LONGEST_KEY:
        raise KeyTooLarge("The name of the profile field is too long")
    if not _KEY.fullmatch(field):
        raise InvalidParam("The name of the profile field is not valid")


def check_value(field: str, value: Any) -> None:
    """Raises ``InvalidParam`` and ``BadJson``."""
    if field in _LONGEST and (not isinstance(value, str) or len(value) > _LONGEST[field]):
        raise InvalidParam(f"{field} is a string of at most {_LONGEST[field]} characters")
    try:
        canonical_json({field: value})
    except NotCanonical as error:
        raise BadJson(f"The value is not canonical JSON: {error}") from error


async def set_field(session: AsyncSession, user_id: str, field: str, value: Any) -> None:
    """Raises ``InvalidParam``, ``KeyTooLarge``, ``BadJson`` and ``ProfileTooLarge``."""
    check_key(field)
    check_value(field, value)
    if value == "" and field in (DISPLAYNAME, AVATAR_URL):
        # How clients have taken them back since before fields could be deleted.
        await store.remove_field(session, user_id, field)
        return
    profile = await store.profile_of(session, user_id) | {field: value}
    if len(canonical_json(profile)) > _LARGEST_PROFILE:
        raise ProfileTooLarge("The profile would be larger than 64 KiB")
    await store.set_field(session, user_id, field, value)
