"""Three servers answer as one, whatever happens to them and between them.

`python -m tests.soak_mesh` goes on for longer.
"""

from pathlib import Path

from tests.mesh.play import open_mesh


async def test_three_servers_end_alike_and_lose_nothing_though_each_is_killed_and_the_network_is_faulty(
    tmp_path: Path,
) -> None:
    async with open_mesh(tmp_path, seed=1) as mesh:
        await mesh.come_to_rest()
        assert await mesh.seconds_until_found(5) < 1
        await mesh.disturb(seconds=6)
        await mesh.come_to_rest()
        await mesh.check()
        assert len(mesh.story.bound) > 20
        assert mesh.story.unanswered > 0
        for fate in mesh.ways[0].met:
            assert sum(way.met[fate] for way in mesh.ways) > 0, fate
