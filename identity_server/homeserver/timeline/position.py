"""Tokens that stand for a position of the stream (Client-Server API, "Pagination")."""

import re

from identity_server.matrix.errors import InvalidParam

# A token of /sync bears more behind an underscore, which is of no concern to whoever pages through a room.
_TOKEN = re.compile(r"s(-?[0-9]{1,18})(?:_[0-9_]*)?")


def position_token(position: int) -> str:
    """Between ``position`` and the next one."""
    return f"s{position}"


def read_position(token: str) -> int:
    """Raises ``InvalidParam``."""
    read = _TOKEN.fullmatch(token)
    if read is None:
        raise InvalidParam("The token was not given out by this server")
    return int(read[1])
