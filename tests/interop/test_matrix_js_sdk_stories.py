"""matrix-js-sdk with its Rust crypto, as Element uses it: whole stories, told in ``matrix_js_sdk_stories.js``."""

import asyncio
import json
import os
import shutil
from typing import Any

import pytest

from tests.interop.conftest import SERVERS
from tests.interop.servers import World
from tests.interop.test_matrix_js_sdk import HERE

_ALL_SECONDS = 170

STORIES = [
    "a client starts",
    "two people talk, and page back through what was said",
    "typing, reading, reactions, edits and redactions are seen",
    "members are loaded when they are needed",
    "profiles, account data, tags, presence and files",
    "a public room is listed, joined by alias, searched and left",
    "a device is signed out with the password",
    "cross-signing, secret storage and key backup are set up",
    "two people verify each other and read each other's encrypted messages",
    "a new device restores the keys from the backup",
    "an email address is added to the account, bound, found, and removed again",
    "one invited by email is in the room after binding the address",
]


@pytest.fixture(scope="module", params=SERVERS)
def outcomes(request: pytest.FixtureRequest, world: World) -> dict[str, dict[str, Any]]:
    """By story: what was told of it."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no node on the path")
    if not (HERE / "node_modules" / "matrix-js-sdk").is_dir():
        pytest.skip("matrix-js-sdk is not installed: npm install --prefix tests/interop")
    return asyncio.run(_told(node, request.param, world))


async def _told(node: str, server: str, world: World) -> dict[str, dict[str, Any]]:
    urls = {
        "homeserver": world.homeserver(server).url,
        "identityServer": world.identity.url,
        "inbox": world.inbox_url,
    }
    process = await asyncio.create_subprocess_exec(
        node,
        str(HERE / "matrix_js_sdk_stories.js"),
        json.dumps(urls),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "NODE_EXTRA_CA_CERTS": str(world.ca_file)},
    )
    try:
        async with asyncio.timeout(_ALL_SECONDS):
            output, complaints = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, output.decode() + complaints.decode()
    lines = [json.loads(line) for line in output.splitlines()]
    return {line.pop("story"): line for line in lines}


@pytest.mark.parametrize("story", STORIES)
def test_a_client_finds(story: str, outcomes: dict[str, dict[str, Any]]) -> None:
    outcome = outcomes[story]
    assert "failure" not in outcome, outcome["failure"]


def test_no_story_is_left_out(outcomes: dict[str, dict[str, Any]]) -> None:
    assert list(outcomes) == STORIES
