"""How it may end with an event that was received."""

from identity_server.matrix.http import Unreachable
from identity_server.matrix.json_api import Refused


class Dropped(Exception):
    """The event is not taken, for the reason given; it may be sent again."""


class NotNow(Dropped):
    """What the event rests on could not be had, because a server did not answer. Later it may be different."""


class MissingAncestors(LookupError):
    """Something that the event refers to is not known here."""


class Judged(str):
    """Why an event that has been taken does not count: it was rejected, or failed softly. Its server has done all that
    it can: of this it is not told."""


class Passing(str):
    """Why an event has not been taken yet."""


def is_passing(error: Unreachable | Refused) -> bool:
    """Whether a server may answer later what it does not answer now."""
    return isinstance(error, Unreachable) or error.status >= 500 or error.status == 429
