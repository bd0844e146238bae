"""What an endpoint may ask for by naming it in its signature."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.matrix.server_keys import RemoteKeys
from identity_server.runtime.database import Database
from identity_server.runtime.rate_limits import RateLimits
from identity_server.runtime.resources import Resources
from identity_server.runtime.tasks import Tasks
from identity_server.runtime.tokens import Entropy
from identity_server.settings import Settings


def opened(name: str) -> Any:
    """A dependency on what the application's lifespan opened under ``name``."""

    async def get(request: Request) -> Any:
        return getattr(request.state, name)

    return Depends(get)


OpenResources = Annotated[Resources, opened("resources")]


async def begin(resources: OpenResources) -> AsyncIterator[AsyncSession]:
    async with resources.database.transaction() as session:
        yield session


async def begin_reading(resources: OpenResources) -> AsyncIterator[AsyncSession]:
    async with resources.database.reading() as session:
        yield session


# Plain coroutines: FastAPI would run plain functions in a thread.
async def read_clock(resources: OpenResources) -> int:
    return resources.clock.now_ms()


async def source_address(request: Request) -> str:
    return request.client.host if request.client else ""


async def _settings(resources: OpenResources) -> Settings:
    return resources.settings


async def _database(resources: OpenResources) -> Database:
    return resources.database


async def _entropy(resources: OpenResources) -> Entropy:
    return resources.entropy


async def _limits(resources: OpenResources) -> RateLimits:
    return resources.limits


# scope="function": committed before the answer leaves, so that a 200 is never followed by a failed commit.
Transaction = Annotated[AsyncSession, Depends(begin, scope="function")]
Reading = Annotated[AsyncSession, Depends(begin_reading, scope="function")]
Now = Annotated[int, Depends(read_clock)]
Source = Annotated[str, Depends(source_address)]
OpenSettings = Annotated[Settings, Depends(_settings)]
# For the few stories that need more than one transaction, each with its reason.
OpenDatabase = Annotated[Database, Depends(_database)]
Random = Annotated[Entropy, Depends(_entropy)]
Limits = Annotated[RateLimits, Depends(_limits)]
OpenTasks = Annotated[Tasks, opened("tasks")]
OpenRemoteKeys = Annotated[RemoteKeys, opened("remote_keys")]
