"""A homeserver at rest, which has one other to speak with."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from identity_server.homeserver.accounts.passwords import Passwords
from identity_server.homeserver.application import open_homeserver
from identity_server.runtime.clock import FakeClock
from identity_server.runtime.tokens import FakeEntropy, SystemEntropy
from identity_server.settings import Settings
from tests.homeserver.conftest import CHEAP
from tests.homeserver.encryption.elsewhere import OtherServer


@pytest.fixture
def other() -> OtherServer:
    return OtherServer()


@pytest.fixture
async def state(settings: Settings, clock: FakeClock, other: OtherServer) -> AsyncIterator[dict[str, Any]]:
    passwords = Passwords(SystemEntropy(), CHEAP)
    parts = {"passwords": passwords, "federation_calls": other, "key_ring": other}
    async with open_homeserver(settings, clock=clock, entropy=FakeEntropy(), background=False, **parts) as state:
        yield state
