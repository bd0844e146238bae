"""Taking what a peer stated: the whole page or nothing of it, in one transaction, under the log's lock.

1. The page must follow on what we have of the peer's log: a gap is asked for again, repetitions are passed over.
2. The peer's tree, extended by the page, must have the root that the peer signed; if it has not, history was
   rewritten, and the peer is not believed until a person has looked.
3. What the rules do not allow is set aside, with its reason; the rest goes on.
4. Of all statements about an address, ours and every peer's, the one of highest precedence holds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.associations import store as associations
from identity_server.identity.associations.merge import Precedence
from identity_server.identity.associations.merkle import Peaks
from identity_server.identity.associations.statement import Statement
from identity_server.identity.associations.store import Current
from identity_server.identity.lookup.index import Change, reindex
from identity_server.identity.replication import store
from identity_server.identity.replication.page import Page
from identity_server.identity.replication.rules import Rules, objection
from identity_server.matrix.canonical_json import canonical_json
from identity_server.matrix.errors import Forbidden, MatrixError
from identity_server.matrix.threepid import Threepid


class UnknownPeer(Forbidden):
    errcode = "M_UNKNOWN_PEER"


class HistoryRewritten(MatrixError):
    """The alarm is kept although the page is not taken."""

    status = 409
    errcode = "IO.IDENTITY_SERVER.HISTORY_REWRITTEN"
    changes_stand = True


@dataclass(frozen=True)
class Taken:
    """How far we have the peer's log now, and what of the page was set aside."""

    position: int
    refused: dict[int, str]


async def take_page(session: AsyncSession, page: Page, *, latest_ts: int, now_ms: int) -> Taken:
    """Raises ``HistoryRewritten`` or ``UnknownPeer``. The page's head is known to be signed by the peer."""
    await associations.lock_log(session)
    peer = await store.find_peer(session, page.origin)
    # It may have been paused or removed since it was authenticated, and what it had stated retired.
    if peer is None or not peer.is_trusted(now_ms):
        raise UnknownPeer("This server does not replicate with yours")
    have = Peaks.from_bytes(peer.taken_position, peer.taken_peaks)
    if page.after > have.size:
        return Taken(have.size, {})  # step 1: a gap
    if page.head.size < have.size:
        return Taken(have.size, {})  # an old page, come late
    tree = page.extend(have)
    if tree.root != page.head.root:  # step 2
        await store.change_peer(session, page.origin, alarm="its history was rewritten", paused=True)
        raise HistoryRewritten("The tree head does not fit what was stated before")
    new = [
        (have.size + number, entry.statement) for number, entry in enumerate(page.entries[have.size - page.after :], 1)
    ]
    rules = Rules.model_validate_json(peer.rules)
    share = rules.max_statements
    refused = {
        position: reason
        for position, statement in new
        if (
            reason := "the peer's share is full"
            if position > share
            else objection(statement, rules, latest_ts=latest_ts)
        )
    }
    accepted = [(position, statement) for position, statement in new if position not in refused]
    # That the share is full is noted once: so what is set aside is bounded too.
    noted = [(position, reason) for position, reason in refused.items() if position <= share + 1]
    await store.set_aside(session, page.origin, noted, of_ours=False, now_ms=now_ms)
    await store.add_statements(session, page.origin, accepted)
    await merge(session, page.origin, accepted)
    await store.change_peer(
        session,
        page.origin,
        taken_position=tree.size,
        taken_peaks=tree.to_bytes(),
        head=canonical_json(page.head.signed).decode(),
        last_contact_ts=now_ms,
    )
    return Taken(tree.size, refused)


async def merge(session: AsyncSession, origin: str, numbered: Sequence[tuple[int, Statement]]) -> None:
    """Let ``origin``'s statements hold where they win (step 4)."""
    best: dict[Threepid, tuple[Precedence, Statement]] = {}
    for position, statement in numbered:
        claim = (Precedence(statement.ts, origin, position), statement)
        held = best.get(statement.threepid)
        if held is None or claim[0] > held[0]:
            best[statement.threepid] = claim
    before = await associations.currents(session, list(best))
    changes = [
        Change(threepid, before.get(threepid), Current(statement.user_id, precedence, _spelling(before.get(threepid))))
        for threepid, (precedence, statement) in best.items()
        if threepid not in before or precedence > before[threepid].precedence
    ]
    if changes:
        await associations.put_current(session, [(change.threepid, change.after) for change in changes])
        await reindex(session, changes)


def _spelling(before: Current | None) -> str | None:
    # A peer's statement bears only the folded address; a spelling that we know of the same address goes on to count.
    return before.spelling if before else None
