"""Taking a batch from a peer that runs Sydent: the whole of it or nothing, in one transaction, under the log's lock.

Items have the origin's ids, which may have gaps but are never used again; so what is sent twice is known by its id.
"""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.associations import store as associations
from identity_server.identity.associations.statement import Statement
from identity_server.identity.replication import store
from identity_server.identity.replication.models import SYDENT, Peer
from identity_server.identity.replication.rules import Rules, objection
from identity_server.identity.replication.take import UnknownPeer, merge


async def trusted_peer(session: AsyncSession, name: str | None, *, now_ms: int) -> Peer:
    """The peer that a certificate names. Raises ``UnknownPeer``."""
    peer = await store.find_peer(session, name) if name else None
    if peer is None or peer.protocol != SYDENT or not peer.is_trusted(now_ms):
        raise UnknownPeer("This server does not replicate with yours")
    return peer


async def take_batch(
    session: AsyncSession, name: str, batch: Sequence[tuple[int, Statement]], *, latest_ts: int, now_ms: int
) -> None:
    """``batch`` is verified, and in the order of its ids. What the rules do not allow is set aside, and counts as
    taken: Sydent would send it for ever. Raises ``UnknownPeer`` if the peer has just lost our trust."""
    await associations.lock_log(session)
    peer = await trusted_peer(session, name, now_ms=now_ms)
    known = await store.known_ids(session, name, [number for number, _ in batch])
    new = [(number, statement) for number, statement in batch if number not in known]
    rules = Rules.model_validate_json(peer.rules)
    refused = {
        number: reason
        for number, statement in new
        if (reason := objection(statement, rules, latest_ts=latest_ts)) is not None
    }
    accepted = [(number, statement) for number, statement in new if number not in refused]
    reached = max([peer.taken_position, *(number for number, _ in new)])
    if reached > rules.max_statements:
        # Only then can there be more than so many: ids are distinct. Counting them all takes a while.
        room = max(0, rules.max_statements - await store.count_statements(session, name))
        refused |= {number: "the peer's share is full" for number, _ in accepted[room:]}
        accepted = accepted[:room]
    await store.set_aside(session, name, refused.items(), of_ours=False, now_ms=now_ms)
    await store.add_statements(session, name, accepted)
    await merge(session, name, accepted)
    await store.change_peer(session, name, taken_position=reached, last_contact_ts=now_ms)
