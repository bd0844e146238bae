from collections.abc import Iterator

import pytest

from tests.cli.warm import warm_command


@pytest.fixture(scope="session")
def command() -> Iterator[tuple[str, ...]]:
    """`identity-server`, as a process to be started."""
    with warm_command() as command:
        yield command
