"""Auth chains, and what of them is in conflict ("State resolution", "Definitions").

Here an event belongs to its own auth chain, and ``m.room.create`` to all of them, however it is named. Between the
chains of whole states that makes one difference: an event of the unconflicted state is in all of them, and so never in
the auth difference. All servers that we know do likewise.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

from identity_server.homeserver.events.event import Event, StateMap

_BATCH = 1_000

# Most chains meet in these, so that they are looked at first.
_COMMON_TYPES = ("m.room.power_levels", "m.room.join_rules", "m.room.create", "m.room.third_party_invite")


class EventSource(Protocol):
    async def events(self, ids: Collection[str]) -> Mapping[str, Event]:
        """Those of ``ids`` that are known, by their IDs."""


class AuthChains:
    """The auth chains of the conflicted state set, down to the start of the room."""

    def __init__(self, conflicted: Collection[str], events: dict[str, Event]) -> None:
        self.conflicted = frozenset(event_id for event_id in conflicted if event_id in events)
        self.events = events
        self._order = _citing_first(events)

    @classmethod
    async def of(cls, conflicted: Collection[str], source: EventSource) -> "AuthChains":
        """Events that ``source`` does not know are passed over."""
        events: dict[str, Event] = {}
        asked: set[str] = set()
        wanted = set(conflicted)
        while wanted:
            asked |= wanted
            found = await source.events(sorted(wanted))
            # Whoever cites what is no state, against rule 3.2 of the authorisation rules, gains nothing by it.
            events.update((event_id, event) for event_id, event in found.items() if event.is_state)
            wanted = {cited for event in found.values() for cited in event.cited} - asked
        return cls(conflicted, events)

    async def full_conflicted_set(
        self, states: Sequence[StateMap], unconflicted: StateMap, source: EventSource, *, with_subgraph: bool
    ) -> set[str]:
        """The conflicted state set, the auth difference and, since room version 12, the conflicted state subgraph."""
        full = set(self.conflicted)
        if with_subgraph:
            full |= self.conflicted_state_subgraph()
        full |= await self._auth_difference(states, unconflicted, source, passing_over=full)
        return full

    def conflicted_state_subgraph(self) -> set[str]:
        """All events on paths from one event of the conflicted state set to another, ends included."""
        # Everything here is cited, if indirectly, by such an event; what is left is to lead to one.
        subgraph: set[str] = set()
        for event_id in reversed(self._order):
            if event_id in self.conflicted or not subgraph.isdisjoint(self.events[event_id].cited):
                subgraph.add(event_id)
        return subgraph

    async def _auth_difference(
        self, states: Sequence[StateMap], unconflicted: StateMap, source: EventSource, passing_over: Collection[str]
    ) -> set[str]:
        """The auth difference, save for events of ``passing_over``: what is not in the chains of all states."""
        in_chains = self._in_chains_of(states, frozenset(unconflicted.values()))
        all_of_them = (1 << len(states)) - 1
        difference = {
            event_id for event_id, chains in in_chains.items() if chains != all_of_them and event_id not in passing_over
        }
        # What is in the chain of an unconflicted event is in all chains. To know, one has to look at the whole state,
        # which may be large: so this is done only where something depends on it, and only as long as it does.
        seen: set[str] = set()
        for batch in _batches(_likely_first(unconflicted)):
            if not difference:
                break
            for cited in await self._cited_by(batch, seen, source):
                self._leave_out(cited, difference, in_chains, all_of_them)
        return difference

    def _in_chains_of(self, states: Sequence[StateMap], unconflicted: Collection[str]) -> dict[str, int]:
        """By event, a bit for each state whose chain it is known to be in."""
        all_of_them = (1 << len(states)) - 1
        in_chains = {event_id: all_of_them if event_id in unconflicted else 0 for event_id in self.events}
        for number, state in enumerate(states):
            for event_id in self.conflicted.intersection(state.values()):
                in_chains[event_id] |= 1 << number
        for event_id in self._order:
            for cited in self.events[event_id].cited:
                if cited in in_chains:
                    in_chains[cited] |= in_chains[event_id]
        return in_chains

    async def _cited_by(self, ids: Sequence[str], seen: set[str], source: EventSource) -> set[str]:
        """Where the chains of ``ids`` enter these, leaving out what was ``seen``."""
        entered: set[str] = set()
        wanted = set(ids) - self.events.keys() - seen
        while wanted:
            seen |= wanted
            found = await source.events(sorted(wanted))
            cited = {cited for event in found.values() for cited in event.cited}
            entered |= cited & self.events.keys()
            wanted = cited - self.events.keys() - seen
        return entered

    def _leave_out(self, event_id: str, difference: set[str], in_chains: dict[str, int], all_of_them: int) -> None:
        """Takes an event that is in all chains, and its own chain, out of the ``difference``."""
        pending = [event_id]
        while pending:
            common = pending.pop()
            if in_chains.get(common, all_of_them) != all_of_them:
                in_chains[common] = all_of_them
                difference.discard(common)
                pending.extend(self.events[common].cited)


def _citing_first(events: Mapping[str, Event]) -> list[str]:
    """All of them, each before those that it cites."""
    cited_by = dict.fromkeys(events, 0)
    for event in events.values():
        for cited in set(event.cited) & events.keys():
            cited_by[cited] += 1
    ready = [event_id for event_id, count in cited_by.items() if count == 0]
    for event_id in ready:  # It grows meanwhile.
        for cited in set(events[event_id].cited) & events.keys():
            cited_by[cited] -= 1
            if cited_by[cited] == 0:
                ready.append(cited)
    return ready


def _likely_first(state: StateMap) -> list[str]:
    return [
        event_id for _, event_id in sorted((key[0] not in _COMMON_TYPES, event_id) for key, event_id in state.items())
    ]


def _batches(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _BATCH):
        yield ids[start : start + _BATCH]
