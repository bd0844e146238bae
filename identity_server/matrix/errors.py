"""What can go wrong, in the specification's words.

Raised wherever it is noticed; rendered once, in ``runtime/errors.py``.
Source: Identity Service API, "Standard error response"; Client-Server API, "Standard error response".
"""

from typing import Any, ClassVar


class MatrixError(Exception):
    """An error that a caller is told about: an HTTP status, an ``errcode``, a sentence, and extra keys.

    ``changes_stand`` is true for the few errors that are an outcome of their own: what the request
    wrote before raising is committed nevertheless (a wrong token must be counted).
    """

    status: int = 400
    errcode: ClassVar[str] = "M_UNKNOWN"
    changes_stand: ClassVar[bool] = False

    def __init__(self, message: str, **extra: Any) -> None:
        super().__init__(message)
        self.body: dict[str, Any] = {"errcode": self.errcode, "error": message, **extra}


# The request itself


class NotJson(MatrixError):
    errcode = "M_NOT_JSON"


class BadJson(MatrixError):
    errcode = "M_BAD_JSON"


class ManagedByServer(BadJson):
    """Clients may read it, and change it only by other ways (Client-Server API, "Client Config")."""

    status = 405


class MissingParam(MatrixError):
    """As the Client-Server API spells it; the Identity Service API says ``M_MISSING_PARAMS``."""

    errcode = "M_MISSING_PARAM"


class MissingParams(MatrixError):
    errcode = "M_MISSING_PARAMS"


class InvalidParam(MatrixError):
    errcode = "M_INVALID_PARAM"


class TooLarge(MatrixError):
    status = 413
    errcode = "M_TOO_LARGE"


class Unrecognized(MatrixError):
    """An unknown path (404), a known one with the wrong method (405), or an unknown value."""

    status = 404
    errcode = "M_UNRECOGNIZED"


class UnsupportedMedium(Unrecognized):
    status = 400


class NotFound(MatrixError):
    status = 404
    errcode = "M_NOT_FOUND"


class LimitExceeded(MatrixError):
    """Too many requests; ``retry_after_ms`` is also rendered as a ``Retry-After`` header."""

    status = 429
    errcode = "M_LIMIT_EXCEEDED"

    def __init__(self, retry_after_ms: int) -> None:
        super().__init__("Too many requests", retry_after_ms=retry_after_ms)


# Who asks


class Unauthorized(MatrixError):
    status = 401
    errcode = "M_UNAUTHORIZED"


class NotEntitled(Unauthorized):
    """The token is a live one, of somebody who may act for themselves only."""

    status = 403


class UnknownToken(MatrixError):
    status = 401
    errcode = "M_UNKNOWN_TOKEN"


class MissingToken(MatrixError):
    status = 401
    errcode = "M_MISSING_TOKEN"


class Forbidden(MatrixError):
    status = 403
    errcode = "M_FORBIDDEN"


class TermsNotSigned(MatrixError):
    status = 403
    errcode = "M_TERMS_NOT_SIGNED"


# Third-party identifiers


class InvalidEmail(MatrixError):
    errcode = "M_INVALID_EMAIL"


class InvalidAddress(MatrixError):
    errcode = "M_INVALID_ADDRESS"


class DestinationRejected(MatrixError):
    errcode = "M_DESTINATION_REJECTED"


class EmailSendError(MatrixError):
    errcode = "M_EMAIL_SEND_ERROR"


class SendError(MatrixError):
    errcode = "M_SEND_ERROR"


class NoValidSession(MatrixError):
    status = 404
    errcode = "M_NO_VALID_SESSION"


class SessionExpired(MatrixError):
    errcode = "M_SESSION_EXPIRED"


class SessionNotValidated(MatrixError):
    errcode = "M_SESSION_NOT_VALIDATED"


class TokenIncorrect(MatrixError):
    errcode = "M_TOKEN_INCORRECT"
    changes_stand = True


class ThreepidInUse(MatrixError):
    errcode = "M_THREEPID_IN_USE"


class ThreepidNotFound(MatrixError):
    errcode = "M_THREEPID_NOT_FOUND"


class ThreepidAuthFailed(MatrixError):
    """What should prove the 3PID does not."""

    errcode = "M_THREEPID_AUTH_FAILED"


class ThreepidMediumNotSupported(MatrixError):
    errcode = "M_THREEPID_MEDIUM_NOT_SUPPORTED"


class ServerNotTrusted(MatrixError):
    errcode = "M_SERVER_NOT_TRUSTED"


class InvalidPepper(MatrixError):
    errcode = "M_INVALID_PEPPER"


# Rooms


class UnsupportedRoomVersion(MatrixError):
    errcode = "M_UNSUPPORTED_ROOM_VERSION"


# Encryption


class InvalidSignature(MatrixError):
    errcode = "M_INVALID_SIGNATURE"


class WrongRoomKeysVersion(MatrixError):
    """The backup is not the current one; ``current_version`` says which is."""

    status = 403
    errcode = "M_WRONG_ROOM_KEYS_VERSION"


# Other servers


class BadGateway(MatrixError):
    """Another server that had to be asked did not answer, or answered nonsense."""

    status = 502
    errcode = "M_UNKNOWN"


class PassedOn(MatrixError):
    """What another server refused in the specification's words, said to whoever asked us to ask it."""

    def __init__(self, status: int, errcode: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body["errcode"] = errcode


class UnableToAuthoriseJoin(MatrixError):
    """Whether the room lets the user in is not for us to know."""

    errcode = "M_UNABLE_TO_AUTHORISE_JOIN"


class UnableToGrantJoin(MatrixError):
    """The room lets the user in, but nobody of ours can say so."""

    errcode = "M_UNABLE_TO_GRANT_JOIN"


class IncompatibleRoomVersion(MatrixError):
    """``room_version`` is to be given."""

    errcode = "M_INCOMPATIBLE_ROOM_VERSION"
