"""The User-Interactive Authentication API: a request is refused, with what is still asked for, until all is proven.

Stages hash passwords and ask other servers, so none runs inside a transaction: ``prove`` comes first, with short ones
of its own, then ``finish`` in the transaction that does what was asked for. For requests that the user's password
confirms, ``confirm.py`` says both.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ConfigDict, ValidationError
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.accounts import store
from identity_server.homeserver.validation.proven import ProvenThreepid
from identity_server.matrix.errors import Forbidden, InvalidParam, MatrixError, Unauthorized, Unrecognized
from identity_server.matrix.identifiers import Text
from identity_server.runtime.database import Database
from identity_server.runtime.requests import Body
from identity_server.runtime.tokens import Entropy

DUMMY = "m.login.dummy"
PASSWORD = "m.login.password"

SESSION_LIFETIME_MS = 3_600_000
_SESSION_ID_LENGTH = 32


class Attempt(Body):
    """The ``auth`` of a request; what else stands in it is for the stage that ``type`` names."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    type: Text | None = None
    session: Text | None = None

    def also(self, name: str) -> Any:
        """What stands in it under ``name``, unchecked."""
        return (self.model_extra or {}).get(name)


def attempt_in(body: Mapping[str, Any]) -> Attempt | None:
    """The ``auth`` of a body that is read as it is. Raises ``InvalidParam``."""
    if body.get("auth") is None:
        return None
    try:
        return Attempt.model_validate(body["auth"])
    except ValidationError as error:
        raise InvalidParam("auth is not an object as User-Interactive Authentication has it") from error


# What it proved, if that is a 3PID. Raises the MatrixError that says why the attempt failed.
Stage = Callable[[Attempt], Awaitable[ProvenThreepid | None]]


class EndsRequest(Exception):
    """Raised by a stage whose failure no further attempt can mend: ``error`` is the answer."""

    def __init__(self, error: MatrixError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True)
class Proof:
    """That every stage of a flow has been passed; ``finish`` uses it up."""

    session_id: str
    completed: tuple[str, ...]
    threepids: tuple[ProvenThreepid, ...]


@dataclass(frozen=True)
class Wanted:
    """What a request asks for, and how each of its stages is passed."""

    operation: str
    """A session serves no other."""
    flows: Sequence[Sequence[str]]
    stages: Mapping[str, Stage]
    params: Mapping[str, Any] = field(default_factory=dict)


class AuthenticationNeeded(MatrixError):
    """Not an error as others are: its body says how to go on. The session that it names is kept."""

    status = 401
    changes_stand = True

    def __init__(
        self, wanted: Wanted, session_id: str, completed: Sequence[str], failure: MatrixError | None = None
    ) -> None:
        super().__init__("More authentication is needed")
        self.body: dict[str, Any] = {
            **(failure.body if failure else {}),
            "flows": [{"stages": list(stages)} for stages in wanted.flows],
            "params": dict(wanted.params),
            "session": session_id,
        }
        if completed:
            self.body["completed"] = list(completed)


async def pass_dummy(_attempt: Attempt) -> None:
    """``m.login.dummy``: always passed ("Dummy Auth")."""


async def prove(database: Database, attempt: Attempt | None, wanted: Wanted, *, entropy: Entropy, now_ms: int) -> Proof:
    """Raises ``AuthenticationNeeded`` until every stage of one of the flows is passed, in its order.

    Raises ``Forbidden`` for a session that was begun for something else.
    """
    session_id = attempt.session if attempt else None
    failure: MatrixError | None = None
    kept = await _kept(database, session_id, wanted.operation, now_ms) if session_id else None
    if kept is None:
        if session_id is not None:
            failure = Unauthorized("The session is unknown or has expired")
        session_id, kept = await _begin(database, wanted.operation, entropy, now_ms), Proof("", (), ())
    assert session_id is not None
    completed = kept.completed
    if failure is None and attempt and attempt.type and attempt.type not in completed:
        failure, threepid = await _try(attempt, wanted, completed)
        if failure is None:
            async with database.transaction() as session:
                row = await store.complete_stage(session, session_id, attempt.type, threepid)
            # Of two requests at once the other may have finished the session.
            kept = Proof(session_id, *row) if row else kept
            completed = kept.completed
    if not any(tuple(flow) == completed for flow in wanted.flows):
        raise AuthenticationNeeded(wanted, session_id, completed, failure)
    return Proof(session_id, completed, kept.threepids)


async def finish(session: AsyncSession, proof: Proof) -> None:
    """Use the proof up: it serves one request. Raises ``Unauthorized`` if it has served another meanwhile."""
    if not await store.remove_interactive_session(session, proof.session_id):
        raise Unauthorized("The session has been used already")


async def _kept(database: Database, session_id: str, operation: str, now_ms: int) -> Proof | None:
    async with database.reading() as session:
        found = await store.interactive_session(session, session_id, created_after_ts=now_ms - SESSION_LIFETIME_MS)
    if found is None:
        return None
    began_for, progress = found
    if began_for != operation:
        raise Forbidden("The session is for another request")
    return Proof(session_id, *progress)


async def _begin(database: Database, operation: str, entropy: Entropy, now_ms: int) -> str:
    session_id = entropy.token(_SESSION_ID_LENGTH)
    async with database.transaction() as session:
        await store.purge_interactive_sessions(session, created_before_ts=now_ms - SESSION_LIFETIME_MS)
        await store.add_interactive_session(session, session_id, operation, now_ms=now_ms)
    return session_id


async def _try(
    attempt: Attempt, wanted: Wanted, completed: tuple[str, ...]
) -> tuple[MatrixError | None, ProvenThreepid | None]:
    stage = wanted.stages.get(attempt.type or "")
    if stage is None:
        return Unrecognized("This way of authentication is not offered"), None
    # "The flow's stages must be completed in order."
    after = (*completed, attempt.type)
    if not any(tuple(flow[: len(after)]) == after for flow in wanted.flows):
        return Unauthorized("It is not the turn of this stage"), None
    try:
        return None, await stage(attempt)
    except EndsRequest as end:
        raise end.error from end
    except MatrixError as error:
        if error.status == 429 or error.status >= 500:
            raise  # it says nothing of the attempt
        return error, None
