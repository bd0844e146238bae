"""Tokens of /sync: up to where a client has been told."""

import re
from dataclasses import dataclass

from identity_server.matrix.errors import InvalidParam

_TOKEN = re.compile(r"s([0-9]{1,18})(?:_([0-9]{1,18})(?:_([0-9]{1,18}))?)?")


@dataclass(frozen=True)
class SyncToken:
    """``position`` of the stream; ``typing``: the last serial of typing; ``to_device``: the position up to which
    messages to the device were delivered, which lags behind while there are many."""

    position: int
    typing: int
    to_device: int

    def __str__(self) -> str:
        if self.to_device == self.position:
            return f"s{self.position}_{self.typing}"
        return f"s{self.position}_{self.typing}_{self.to_device}"


def read_token(token: str) -> SyncToken:
    """Raises ``InvalidParam``. A token of GET /messages is taken too."""
    read = _TOKEN.fullmatch(token)
    if read is None:
        raise InvalidParam("since was not given out by this server")
    position = int(read[1])
    return SyncToken(position, int(read[2] or 0), position if read[3] is None else int(read[3]))
