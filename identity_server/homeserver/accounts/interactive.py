"""The User-Interactive Authentication API: a request is refused, with what is still asked for, until all is proven."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic import ConfigDict
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.accounts import store
from identity_server.matrix.errors import MatrixError, Unauthorized, Unrecognized
from identity_server.matrix.identifiers import Text
from identity_server.runtime.requests import Body
from identity_server.runtime.tokens import Entropy

DUMMY = "m.login.dummy"

SESSION_LIFETIME_MS = 3_600_000
_SESSION_ID_LENGTH = 32


class Attempt(Body):
    """The ``auth`` of a request; what else stands in it is for the stage that ``type`` names."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")

    type: Text | None = None
    session: Text | None = None


# Raises the MatrixError that says why the attempt failed.
Stage = Callable[[Attempt], Awaitable[None]]


class AuthenticationNeeded(MatrixError):
    """Not an error as others are: its body says how to go on. The session that it names is kept."""

    status = 401
    changes_stand = True

    def __init__(
        self, session_id: str, flows: tuple[tuple[str, ...], ...], completed: set[str], failure: MatrixError | None
    ) -> None:
        super().__init__("More authentication is needed")
        self.body: dict[str, Any] = {
            **(failure.body if failure else {}),
            "flows": [{"stages": list(stages)} for stages in flows],
            "params": {},
            "session": session_id,
        }
        if completed:
            self.body["completed"] = sorted(completed)


async def pass_dummy(_attempt: Attempt) -> None:
    """``m.login.dummy``: always passed ("Dummy Auth")."""


async def prove(
    session: AsyncSession,
    attempt: Attempt | None,
    *,
    operation: str,
    flows: tuple[tuple[str, ...], ...],
    stages: Mapping[str, Stage],
    entropy: Entropy,
    now_ms: int,
) -> None:
    """Raises ``AuthenticationNeeded`` until every stage of one of ``flows`` is passed.

    ``stages`` says how each of them is passed. A session serves one ``operation`` only, and only once.
    """
    oldest_ts = now_ms - SESSION_LIFETIME_MS
    failure: MatrixError | None = None
    session_id, completed = attempt.session if attempt else None, None
    if session_id is not None:
        completed = await store.completed_stages(session, session_id, operation, created_after_ts=oldest_ts)
    if session_id is None or completed is None:
        if session_id is not None:
            failure = Unauthorized("The session is unknown or has expired")
        await store.purge_interactive_sessions(session, created_before_ts=oldest_ts)
        session_id, completed = entropy.token(_SESSION_ID_LENGTH), set()
        await store.add_interactive_session(session, session_id, operation, now_ms=now_ms)

    if failure is None and attempt and attempt.type and attempt.type not in completed:
        failure = await _try(stages.get(attempt.type), attempt)
        if failure is None:
            completed.add(attempt.type)
            await store.set_completed_stages(session, session_id, completed)
    if not any(completed.issuperset(flow) for flow in flows):
        raise AuthenticationNeeded(session_id, flows, completed, failure)
    await store.remove_interactive_session(session, session_id)


async def _try(stage: Stage | None, attempt: Attempt) -> MatrixError | None:
    if stage is None:
        return Unrecognized("This way of authentication is not offered")
    try:
        await stage(attempt)
    except MatrixError as error:
        return error
    return None
