"""Whatever is written while the network is in pieces, in the end all servers have the same.

`python -m tests.soak_partition` goes on for longer.
"""

from pathlib import Path

import pytest

from tests.homeserver.federation.partition import open_partition


@pytest.mark.parametrize("seed", [1, 2])
async def test_servers_that_lost_each_other_agree_once_they_meet_again(tmp_path: Path, seed: int) -> None:
    async with open_partition(tmp_path, seed) as play:
        await play.gather()
        await play.disturb()
        try:
            await play.come_to_rest()
        except TimeoutError:
            pytest.fail(await play.difference())
        assert play.net.met["lost"] > 0
