"""Account data that the server manages and that is written down elsewhere, such as the push rules."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated, Any

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.runtime.dependencies import opened

Computed = Mapping[str, Callable[[AsyncSession, str], Awaitable[dict[str, Any]]]]
"""By type: the content that a user is shown. Handed down, for those who know stand above."""

OpenComputed = Annotated[Computed, opened("computed_account_data")]
