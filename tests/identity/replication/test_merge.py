"""Whatever order things arrive in, every server ends in the same state: that of the pure merge."""

import json
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from identity_server.identity.associations import store as associations
from identity_server.identity.associations.merge import Precedence
from identity_server.identity.associations.statement import Statement
from identity_server.identity.lookup.peppers import ensure_pepper
from identity_server.identity.lookup.store import live_peppers
from identity_server.identity.replication.take import merge
from identity_server.matrix.threepid import Threepid, lookup_hash
from identity_server.runtime.database import Database
from identity_server.runtime.migrations import prepare
from identity_server.runtime.tokens import FakeEntropy

ADDRESSES = [Threepid("email", f"{name}@example.org") for name in "abc"]
USERS = [None, "@one:hs.test", "@two:hs.test"]

statements = st.builds(
    lambda threepid, user_id, ts: Statement(threepid, user_id, ts, None, None),
    st.sampled_from(ADDRESSES),
    st.sampled_from(USERS),
    st.integers(0, 4),
)
histories = st.dictionaries(
    st.sampled_from(["a.test", "b.test", "c.test"]), st.lists(statements, min_size=1, max_size=8), min_size=1
)


def winners(claims: list[tuple[str, int, Statement]]) -> dict[Threepid, str]:
    """The pure merge, from its definition."""
    best: dict[Threepid, tuple[Precedence, str | None]] = {}
    for origin, position, statement in claims:
        claim = (Precedence(statement.ts, origin, position), statement.user_id)
        if statement.threepid not in best or claim[0] > best[statement.threepid][0]:
            best[statement.threepid] = claim
    return {threepid: user_id for threepid, (_, user_id) in best.items() if user_id is not None}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories=histories, data=st.data())
async def test_any_order_delay_and_repetition_of_batches_ends_in_the_same_state(
    histories: dict[str, list[Statement]], data: st.DataObject
) -> None:
    claims = [(origin, position, said) for origin, log in histories.items() for position, said in enumerate(log, 1)]
    # Each server hears of everything, in an order of its own, in batches of its own, some of it twice.
    shuffled = data.draw(st.permutations([*claims, *data.draw(st.lists(st.sampled_from(claims), max_size=5))]))
    size = data.draw(st.integers(1, len(shuffled)))
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{Path(folder) / 'test.db'}")
        try:
            await prepare(database, "identity")
            await ensure_pepper(database, FakeEntropy(), now_ms=0)
            for start in range(0, len(shuffled), size):
                batch = shuffled[start : start + size]
                async with database.transaction() as session:
                    for origin in histories:
                        await merge(
                            session, origin, [(position, said) for who, position, said in batch if who == origin]
                        )
            async with database.reading() as session:
                held = await associations.page_of_bound(session, Threepid("", ""), 100)
                [pepper] = await live_peppers(session)
            indexed = await database.fast.value("SELECT json_group_object(hash, user_id) FROM lookup_0")
        finally:
            await database.close()
    expected = winners(claims)
    assert {Threepid(medium, address): user_id for medium, address, user_id, _ in held} == expected
    assert json.loads(indexed) == {
        lookup_hash(threepid.address, threepid.medium, pepper.pepper): user_id for threepid, user_id in expected.items()
    }
