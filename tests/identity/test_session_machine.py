"""What holds whatever happens, in whatever order: of one validation session, and of the server as a whole.

Both machines are played against a model that is too simple to be wrong.
"""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from identity_server.identity.application import identity_application
from identity_server.identity.lookup.fill import build
from identity_server.identity.lookup.imports import importing
from identity_server.identity.lookup.rotate import InGrace, begin, switch
from identity_server.identity.lookup.store import LivePepper
from identity_server.identity.transfer.bulk import import_bindings
from identity_server.identity.transfer.lines import write_line
from identity_server.identity.validation.sessions import Session
from identity_server.matrix.errors import SessionExpired, SessionNotValidated
from identity_server.matrix.threepid import Threepid
from identity_server.settings import Settings, ValidationSettings
from tests.world import IdentityServer, serving

LIFETIME_MS = 86_400_000
MAX_WRONG = 3
SETTINGS = ValidationSettings(session_lifetime=LIFETIME_MS, max_wrong_tokens=MAX_WRONG)


class SessionMachine(RuleBasedStateMachine):
    """One session: begun, sent again, perhaps in vain, guessed at, proven, left alone for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 1_700_000_000_000
        self.session = Session("sid", Threepid("email", "a@b.c"), None, "secret", 1, None, self.now_ms)
        self.sent = [b"token 1"]
        self.touched_ms = self.now_ms
        self.on_their_way: list[tuple[Session, Session, int]] = []
        self.wrong = 0
        self.proven_ms: int | None = None

    @property
    def is_expired(self) -> bool:
        return self.now_ms - self.touched_ms >= LIFETIME_MS

    @property
    def is_ended(self) -> bool:
        return self.is_expired or (self.proven_ms is None and self.wrong >= MAX_WRONG)

    @rule(ms=st.sampled_from([0, 1, LIFETIME_MS // 3, LIFETIME_MS - 1, LIFETIME_MS]))
    def time_passes(self, ms: int) -> None:
        self.now_ms += ms

    @precondition(lambda self: not self.is_ended)
    @rule(link=st.sampled_from([None, "https://is.test/"]))
    def it_is_sent_again(self, link: str | None) -> None:
        attempt = self.session.send_attempt + 1
        before = self.session
        self.session = before.sent_again(attempt, link, self.now_ms)
        self.sent.append(b"token %d" % attempt)
        self.on_their_way.append((self.session, before, self.touched_ms))
        if self.proven_ms is None:
            self.touched_ms = self.now_ms
        assert (self.session.send_attempt, self.session.next_link) == (attempt, link)

    @precondition(lambda self: self.on_their_way)
    @rule(which=st.integers(0, 20))
    def a_message_could_not_be_sent(self, which: int) -> None:
        """Any of those on their way, of which the last may have arrived meanwhile."""
        claimed, before, touched_ms = self.on_their_way.pop(which % len(self.on_their_way))
        self.sent.remove(b"token %d" % claimed.send_attempt)
        expected = self.session
        if claimed.send_attempt == self.session.send_attempt:
            expected = before
            if self.proven_ms is None:
                self.touched_ms = touched_ms
        self.session = self.session.not_sent(claimed, before)
        assert (self.session.send_attempt, self.session.next_link) == (expected.send_attempt, expected.next_link)

    @precondition(lambda self: self.on_their_way)
    @rule(which=st.integers(0, 20))
    def a_message_arrives(self, which: int) -> None:
        self.on_their_way.pop(which % len(self.on_their_way))

    @rule(which=st.integers(0, 20))
    def a_right_token_comes(self, which: int) -> None:
        """Any of those that were sent."""
        if self.is_ended:
            self._comes_too_late(self.sent[which % len(self.sent)])
            return
        self.session, verdict = self.session.submit(self.sent[which % len(self.sent)], self.sent, SETTINGS, self.now_ms)
        assert verdict == "right"
        if self.proven_ms is None:
            self.proven_ms = self.touched_ms = self.now_ms

    @rule(guess=st.sampled_from([b"", b"token", b"token 1 ", b"token 99"]))
    def a_wrong_token_comes(self, guess: bytes) -> None:
        if self.is_ended:
            self._comes_too_late(guess)
            return
        self.session, verdict = self.session.submit(guess, self.sent, SETTINGS, self.now_ms)
        assert verdict == "wrong"
        self.wrong += 1

    def _comes_too_late(self, token: bytes) -> None:
        with pytest.raises(SessionExpired):
            self.session.submit(token, self.sent, SETTINGS, self.now_ms)

    @invariant()
    def it_says_what_has_been_proven(self) -> None:
        if self.is_expired:
            with pytest.raises(SessionExpired):
                self.session.proven_at(SETTINGS, self.now_ms)
        elif self.proven_ms is None:
            with pytest.raises(SessionNotValidated):
                self.session.proven_at(SETTINGS, self.now_ms)
        else:
            assert self.session.proven_at(SETTINGS, self.now_ms) == self.proven_ms

    @invariant()
    def it_ends_when_it_should(self) -> None:
        assert self.session.ended(SETTINGS, self.now_ms) == self.is_ended
        assert self.session.expired(SETTINGS, self.now_ms) == self.is_expired

    @invariant()
    def what_was_proven_stays_proven_and_of_what(self) -> None:
        assert self.session.validated_ts == self.proven_ms
        assert (self.session.threepid, self.session.client_secret) == (Threepid("email", "a@b.c"), "secret")


def test_a_session_proves_what_it_should_whatever_happens() -> None:
    run_state_machine_as_test(
        SessionMachine, settings=hypothesis_settings(max_examples=200, stateful_step_count=30, deadline=None)
    )


V2 = "/_matrix/identity/v2"
USERS = ("@alice:hs.test", "@bob:hs.test", "@carol:elsewhere.test")
ADDRESSES = ("a@example.org", "Straße@Example.org", "ΣΊΣΥΦΟΣ@example.org", "447700900001")
GRACE_MS = 60_000


def spellings(typed: str) -> tuple[str, ...]:
    """Folded as the specification says, and as clients do that only lower-case."""
    return (typed.casefold(), typed.lower())


class Killed(Exception):
    """What an import ends with that is killed."""


class ServerMachine(RuleBasedStateMachine):
    """A server over HTTP, and what each user should find in it."""

    proofs = Bundle("proofs")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.open = AsyncExitStack()
        self.bound: dict[str, str] = {}  # folded address: user ID
        self.spelled: dict[str, str] = {}  # as it was typed when it was bound
        self.known: set[str] = set()  # about which anything was ever stated
        self.is_import_unfinished = False
        self.secrets = 0
        self.building: LivePepper | None = None
        self.is_built = False

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        async def in_time() -> Any:
            async with asyncio.timeout(30):
                return await work

        return self.loop.run_until_complete(in_time())

    @initialize()
    def start(self) -> None:
        self.run(self._start())

    async def _start(self) -> None:
        folder = Path(self.open.enter_context(TemporaryDirectory()))
        settings = Settings(
            server={"name": "is.test", "public_base_url": "https://is.test", "data_dir": folder},
            rate_limits={"enabled": False},
            lookup={"algorithms": ("sha256", "none")},
        )
        self.server = IdentityServer(settings)
        server = self.server
        app = identity_application(
            settings, clock=server.clock, entropy=server.entropy, outlet=server.outlet, homeservers=server.homeservers
        )
        server.state, server.client = await self.open.enter_async_context(serving(app))
        self.headers = {user: await server.account(user) for user in USERS}

    def teardown(self) -> None:
        self.run(self.open.aclose())
        self.loop.close()

    def post(self, path: str, user: str | None, **body: Any) -> dict[str, Any]:
        headers = self.headers[user] if user else {}
        answer: dict[str, Any] = self.run(self.server.client.post(V2 + path, json=body, headers=headers)).json()
        return answer

    @rule(target=proofs, user=st.sampled_from(USERS), address=st.sampled_from(ADDRESSES))
    def somebody_proves(self, user: str, address: str) -> Any:
        self.secrets += 1
        secret = f"secret-{self.secrets}"
        medium = "email" if "@" in address else "msisdn"
        asked = {"email": address} if medium == "email" else {"country": "GB", "phone_number": f"+{address}"}
        sid = self.post(f"/validate/{medium}/requestToken", user, **asked, client_secret=secret, send_attempt=1)["sid"]
        session = {"sid": sid, "client_secret": secret}
        token = self.server.outlet.sent[-1].context["token"]
        assert self.post(f"/validate/{medium}/submitToken", user, **session, token="wrong")["errcode"]
        assert self.post(f"/validate/{medium}/submitToken", user, **session, token=token) == {"success": True}
        return multiple((address, session))

    @rule(user=st.sampled_from(USERS), proof=proofs)
    def somebody_binds(self, user: str, proof: tuple[str, dict[str, str]]) -> None:
        """Whoever holds the session's secret; it may have been bound to another before."""
        address, session = proof
        answer = self.post("/3pid/bind", user, **session, mxid=user)
        assert (answer["address"], answer["mxid"]) == (address.casefold(), user)
        self._is_bound(address, user)

    def _is_bound(self, address: str, user: str) -> None:
        self.bound[address.casefold()], self.spelled[address.casefold()] = user, address
        self.known.add(address.casefold())

    @rule(user=st.sampled_from(USERS), other=st.sampled_from(USERS), proof=proofs)
    def somebody_tries_to_bind_for_another(self, user: str, other: str, proof: tuple[str, dict[str, str]]) -> None:
        if user != other:
            assert self.post("/3pid/bind", user, **proof[1], mxid=other)["errcode"] == "M_UNAUTHORIZED"

    @rule(user=st.sampled_from(USERS), address=st.sampled_from(ADDRESSES))
    def somebody_unbinds_by_account(self, user: str, address: str) -> None:
        self._unbinds(user, user, address, {})

    @rule(user=st.sampled_from(USERS), proof=proofs)
    def somebody_unbinds_by_session(self, user: str, proof: tuple[str, dict[str, str]]) -> None:
        self._unbinds(None, user, *proof)

    def _unbinds(self, asking: str | None, user: str, address: str, session: dict[str, str]) -> None:
        threepid = {"medium": "email" if "@" in address else "msisdn", "address": address}
        assert self.post("/3pid/unbind", asking, mxid=user, threepid=threepid, **session) == {}
        if self.bound.get(address.casefold()) == user:
            del self.bound[address.casefold()], self.spelled[address.casefold()]

    @rule(seconds=st.sampled_from([0.0, 0.001, 2.0, 61.0]))
    def time_passes(self, seconds: float) -> None:
        self.server.clock.advance(seconds=seconds)

    @precondition(lambda self: self.building is None)
    @rule()
    def a_rotation_begins(self) -> None:
        with suppress(InGrace):
            self.building = self.run(begin(self.server.database, clock=self.server.clock, entropy=self.server.entropy))

    @precondition(lambda self: self.building is not None)
    @rule()
    def the_index_is_built(self) -> None:
        """Perhaps again: the builder may have been interrupted."""
        self.run(build(self.server.database, self.building))
        self.is_built = True

    @precondition(lambda self: self.is_built)
    @rule()
    def the_pepper_is_switched(self) -> None:
        self.run(switch(self.server.database, self.building, grace_ms=GRACE_MS, clock=self.server.clock))
        self.building, self.is_built = None, False
        self.server.clock.advance(seconds=2)  # until every process knows

    @rule(user=st.sampled_from(USERS), address=st.sampled_from(ADDRESSES))
    def an_import_is_killed(self, user: str, address: str) -> None:
        """Once it has stated this: what it had said of hashes is lost."""
        if self.is_import_unfinished:
            self.the_import_is_finished()

        def lines() -> Iterator[bytes]:
            yield write_line(("email" if "@" in address else "msisdn", address, user, None))
            raise Killed

        server = self.server
        with suppress(Killed):
            self.run(
                import_bindings(
                    server.database,
                    lines(),
                    server_name="is.test",
                    clock=server.clock,
                    entropy=server.entropy,
                    at_once=1,
                )
            )
        if address.casefold() not in self.known:
            self._is_bound(address, user)
            self.is_import_unfinished = True

    @precondition(lambda self: self.is_import_unfinished)
    @rule()
    def the_import_is_finished(self) -> None:
        async def finish() -> None:
            async with importing(self.server.database, clock=self.server.clock, entropy=self.server.entropy) as hashes:
                await hashes.finish_another()
                await hashes.put_in()

        self.run(finish())
        self.is_import_unfinished = False

    @precondition(lambda self: not self.is_import_unfinished)
    @rule(user=st.sampled_from(USERS))
    def somebody_looks_everybody_up(self, user: str) -> None:
        expected = {
            spelling: self.bound[folded] for folded, typed in self.spelled.items() for spelling in spellings(typed)
        }
        asked = {spelling for address in ADDRESSES for spelling in spellings(address)}
        for medium in ("email", "msisdn"):
            mine = {address: who for address, who in expected.items() if ("@" in address) == (medium == "email")}
            assert self.run(self.server.found(self.headers[user], *asked, medium=medium)) == mine

    @rule(user=st.sampled_from(USERS))
    def somebody_looks_everybody_up_in_the_clear(self, user: str) -> None:
        details = self.run(self.server.client.get(f"{V2}/hash_details", headers=self.headers[user])).json()
        asked = {f"{address} {'email' if '@' in address else 'msisdn'}": address for address in ADDRESSES}
        answer = self.post("/lookup", user, algorithm="none", pepper=details["lookup_pepper"], addresses=list(asked))
        found = {asked[key].casefold(): user_id for key, user_id in answer["mappings"].items()}
        assert found == self.bound

    @invariant()
    def the_log_has_no_gaps(self) -> None:
        if not hasattr(self, "server"):
            return
        positions = self.run(
            self.server.database.fast.value("SELECT count(*) = coalesce(max(position), 0) FROM association_log")
        )
        assert positions


def test_lookups_answer_what_was_bound_last_whatever_happens() -> None:
    run_state_machine_as_test(
        ServerMachine,
        settings=hypothesis_settings(
            max_examples=12, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
