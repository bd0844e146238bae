"""Taking what a peer stated: the whole page or nothing of it, in one transaction, under the log's lock.

1. The page must follow on what we have of the peer's log: a gap is asked for again, repetitions are passed over.
2. The peer's tree, extended by the page, must have the root that the peer signed; if it has not, history was
   rewritten, and the peer is not believed until a person has looked.
3. What the rules do not allow is set aside, with its reason; the rest goes on.
4. Of all statements about an address, ours and every peer's, the one of highest precedence holds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.associations import store as associations
from identity_server.identity.associations.merge import Claim, Precedence, greatest
from identity_server.identity.associations.merkle import Peaks
from identity_server.identity.associations.statement import Statement
from identity_server.identity.associations.store import Current
from identity_server.identity.lookup.index import Change, reindex
from identity_server.identity.replication import store
from identity_server.identity.replication.alarm import raise_alarm
from identity_server.identity.replication.models import Peer
from identity_server.identity.replication.page import Page
from identity_server.identity.replication.rules import Rules, objection
from identity_server.matrix.canonical_json import canonical_json
from identity_server.matrix.errors import Forbidden, MatrixError


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
    refused: Mapping[int, str]


class Standing(NamedTuple):
    """What a page is held against: how far we have the peer's log, its tree there, and what it may speak about."""

    position: int
    peaks: bytes
    rules: str

    @classmethod
    def of(cls, peer: Peer) -> "Standing":
        return cls(peer.taken_position, peer.taken_peaks, peer.rules)


@dataclass(frozen=True)
class Checked:
    """What a page comes to on top of ``standing``. ``follows``: whether it begins where that ends, or earlier, and ends
    no earlier. ``tree``: the peer's, up to the page's end."""

    standing: Standing
    follows: bool
    tree: Peaks
    accepted: Sequence[tuple[int, Statement]]
    refused: Mapping[int, str]

    @property
    def leaves(self) -> Standing:
        """What the next page is held against, once this one is taken."""
        return Standing(self.tree.size, self.tree.to_bytes(), self.standing.rules)


def check(page: Page, standing: Standing, *, latest_ts: int) -> Checked:
    """What needs no lock, and is most of the work. Pure."""
    have = Peaks.from_bytes(standing.position, standing.peaks)
    if not page.after <= have.size <= page.head.size:
        return Checked(standing, False, have, [], {})
    rules = Rules.model_validate_json(standing.rules)
    accepted, refused = [], {}
    for position, entry in enumerate(page.entries[have.size - page.after :], start=have.size + 1):
        if position > rules.max_statements:
            refused[position] = "the peer's share is full"
        elif (reason := objection(entry.statement, rules, latest_ts=latest_ts)) is not None:
            refused[position] = reason
        else:
            accepted.append((position, entry.statement))
    return Checked(standing, True, page.extend(have), accepted, refused)


async def take_page(session: AsyncSession, page: Page, checked: Checked, *, latest_ts: int, now_ms: int) -> Taken:
    """Raises ``HistoryRewritten`` or ``UnknownPeer``. The page's head is known to be signed by the peer.

    ``checked``: the page as it was before the lock was taken. If something has changed since, it is checked again.
    """
    await associations.lock_log(session)
    peer = await store.find_peer(session, page.origin)
    # It may have been paused or removed since it was authenticated, and what it had stated retired.
    if peer is None or not peer.is_trusted(now_ms):
        raise UnknownPeer("This server does not replicate with yours")
    if (standing := Standing.of(peer)) != checked.standing:
        checked = check(page, standing, latest_ts=latest_ts)
    if not checked.follows:
        return Taken(standing.position, {})
    if checked.tree.root != page.head.root:
        await raise_alarm(session, page.origin, "its history was rewritten")
        raise HistoryRewritten("The tree head does not fit what was stated before")
    # That the share is full is noted once: so what is set aside is bounded too.
    share = Rules.model_validate_json(standing.rules).max_statements
    noted = [(position, reason) for position, reason in checked.refused.items() if position <= share + 1]
    await store.set_aside(session, page.origin, noted, of_ours=False, now_ms=now_ms)
    await store.add_statements(session, page.origin, checked.accepted)
    await merge(session, page.origin, checked.accepted)
    await store.change_peer(
        session,
        page.origin,
        taken_position=checked.tree.size,
        taken_peaks=checked.tree.to_bytes(),
        head=canonical_json(page.head.signed).decode(),
        last_contact_ts=now_ms,
    )
    return Taken(checked.tree.size, checked.refused)


async def merge(session: AsyncSession, origin: str, numbered: Sequence[tuple[int, Statement]]) -> None:
    """Let ``origin``'s statements hold where they win (step 4)."""
    best = greatest(
        Claim(statement.threepid, Precedence(statement.ts, origin, position), statement.user_id)
        for position, statement in numbered
    )
    before = await associations.currents(session, list(best))
    changes = [
        Change(threepid, before.get(threepid), Current(user_id, precedence, _spelling(before.get(threepid))))
        for threepid, precedence, user_id in best.values()
        if threepid not in before or precedence > before[threepid].precedence
    ]
    if changes:
        await associations.put_current(session, [(change.threepid, change.after) for change in changes])
        await reindex(session, changes)


def _spelling(before: Current | None) -> str | None:
    # A peer's statement bears only the folded address; a spelling that we know of the same address goes on to count.
    return before.spelling if before else None
