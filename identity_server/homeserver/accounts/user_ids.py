"""The user IDs of this homeserver (Appendices, "User Identifiers")."""

import re

from identity_server.matrix.errors import MatrixError

_LOCALPART = re.compile(r"[a-z0-9._=/+-]+")


class InvalidUsername(MatrixError):
    errcode = "M_INVALID_USERNAME"


def user_id_for(username: str, server_name: str) -> str:
    """The user ID that ``username`` (a localpart, in whatever case) asks for. Raises ``InvalidUsername``."""
    localpart = username.lower()
    if not _LOCALPART.fullmatch(localpart):
        raise InvalidUsername("A username consists of a-z, 0-9 and . _ = - / +")
    user_id = f"@{localpart}:{server_name}"
    if len(user_id) > 255:
        raise InvalidUsername("The username is too long")
    return user_id
