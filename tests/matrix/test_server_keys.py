"""Server-Server API, "Retrieving server keys"."""

import asyncio
from typing import Any

import pytest

from identity_server.matrix.errors import BadGateway
from identity_server.matrix.http import Unreachable
from identity_server.matrix.server_keys import (
    InvalidServerKeys,
    OldVerifyKey,
    RemoteKeys,
    UnknownKey,
    check,
    publish,
)
from identity_server.matrix.signing import SigningKey, sign_json, verify_json

NOW = 1_700_000_000_000
HOUR = 3_600_000
DAY = 24 * HOUR

FIRST = SigningKey.from_seed("ed25519:a_1", b"1" * 32)
SECOND = SigningKey.from_seed("ed25519:a_2", b"2" * 32)
OLD = OldVerifyKey(SigningKey.from_seed("ed25519:old", b"0" * 32).verify_key, NOW - DAY)


def answer(*keys: SigningKey, **changes: Any) -> dict[str, Any]:
    """What hs.test says, signed with ``keys`` after ``changes``."""
    said = {**publish("hs.test", keys or (FIRST,), now_ms=NOW), "signatures": {}, **changes}
    for key in keys or (FIRST,):
        said = sign_json(said, "hs.test", key)
    return said


# What is published, and what is believed


def test_what_we_publish_has_the_form_of_the_specification() -> None:
    published = publish("hs.test", [FIRST, SECOND], [OLD], now_ms=NOW)
    assert published["server_name"] == "hs.test"
    assert published["verify_keys"] == {
        "ed25519:a_1": {"key": FIRST.verify_key.base64},
        "ed25519:a_2": {"key": SECOND.verify_key.base64},
    }
    assert published["old_verify_keys"] == {"ed25519:old": {"key": OLD.verify_key.base64, "expired_ts": NOW - DAY}}
    # "Originating servers should avoid returning responses that expire in less than an hour."
    assert NOW + HOUR < published["valid_until_ts"] <= NOW + 7 * DAY
    for key in (FIRST, SECOND):
        verify_json(published, "hs.test", key.verify_key)


def test_what_we_publish_is_believed_by_others() -> None:
    keys = check(publish("hs.test", [FIRST, SECOND], [OLD], now_ms=NOW), "hs.test", now_ms=NOW)
    assert keys.verify_keys == {key.key_id: key.verify_key for key in (FIRST, SECOND)}
    assert keys.old_verify_keys == {"ed25519:old": OLD}


def test_no_key_is_believed_for_longer_than_seven_days() -> None:
    assert check(answer(valid_until_ts=NOW + 365 * DAY), "hs.test", now_ms=NOW).valid_until_ts == NOW + 7 * DAY
    assert check(answer(valid_until_ts=NOW + HOUR), "hs.test", now_ms=NOW).valid_until_ts == NOW + HOUR


def test_the_keys_of_another_server_are_refused() -> None:
    with pytest.raises(InvalidServerKeys):
        check(answer(), "other.test", now_ms=NOW)
    with pytest.raises(InvalidServerKeys):
        check(answer(server_name="other.test"), "hs.test", now_ms=NOW)


def test_an_answer_must_be_signed_with_a_key_in_it_and_with_none_wrongly() -> None:
    signed = answer(FIRST, SECOND)
    no_signature: dict[str, Any] = {**signed, "signatures": {}}
    by_another_server = {**signed, "signatures": {"other.test": signed["signatures"]["hs.test"]}}
    by_an_unlisted_key = sign_json(no_signature, "hs.test", SigningKey.from_seed("ed25519:x", b"x" * 32))
    changed = {**signed, "valid_until_ts": signed["valid_until_ts"] + 1}
    one_wrong = {**signed, "signatures": {"hs.test": {**signed["signatures"]["hs.test"], "ed25519:a_2": "A" * 86}}}
    for wrong in (no_signature, by_another_server, by_an_unlisted_key, changed, one_wrong):
        with pytest.raises(InvalidServerKeys):
            check(wrong, "hs.test", now_ms=NOW)


@pytest.mark.parametrize("malformed", [None, 1, "x", []])
def test_signatures_of_others_that_a_notary_could_not_add_its_own_to_are_refused(malformed: Any) -> None:
    signed = answer()
    with pytest.raises(InvalidServerKeys):
        check({**signed, "signatures": {**signed["signatures"], "notary.test": malformed}}, "hs.test", now_ms=NOW)


def test_an_old_key_cannot_vouch_for_the_answer() -> None:
    retired = SigningKey.from_seed("ed25519:old", b"0" * 32)
    said = publish("hs.test", [FIRST], [OLD], now_ms=NOW)
    with pytest.raises(InvalidServerKeys):
        check(sign_json({**said, "signatures": {}}, "hs.test", retired), "hs.test", now_ms=NOW)


def test_keys_of_other_algorithms_are_passed_over() -> None:
    listed = {**answer()["verify_keys"], "post_quantum:1": {"key": "?"}}
    assert check(answer(verify_keys=listed), "hs.test", now_ms=NOW).verify_keys == {FIRST.key_id: FIRST.verify_key}


@pytest.mark.parametrize(
    "changes",
    [
        {"verify_keys": None},
        {"verify_keys": []},
        {"verify_keys": {}},
        {"verify_keys": {FIRST.key_id: FIRST.verify_key.base64}},
        {"verify_keys": {FIRST.key_id: {}}},
        {"verify_keys": {FIRST.key_id: {"key": 1}}},
        {"verify_keys": {FIRST.key_id: {"key": "AAAA"}}},
        {"old_verify_keys": {"ed25519:old": {"key": OLD.verify_key.base64}}},
        {"valid_until_ts": None},
        {"valid_until_ts": "1800000000000"},
        {"valid_until_ts": True},
        {"valid_until_ts": -1},
        {"server_name": None},
    ],
)
def test_what_does_not_have_the_form_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidServerKeys):
        check(answer(**changes), "hs.test", now_ms=NOW)


@pytest.mark.parametrize("nonsense", [None, 1, "x", [], {}, {"server_name": "hs.test"}])
def test_nonsense_is_refused(nonsense: Any) -> None:
    with pytest.raises(InvalidServerKeys):
        check(nonsense, "hs.test", now_ms=NOW)


def test_more_keys_than_any_server_has_are_not_kept() -> None:
    listed = {f"ed25519:{n}": {"key": FIRST.verify_key.base64} for n in range(1000)}
    with pytest.raises(InvalidServerKeys):
        check(answer(verify_keys={**answer()["verify_keys"], **listed}), "hs.test", now_ms=NOW)


def test_an_answer_that_cannot_have_been_signed_is_refused() -> None:
    for extra in (0.5, 2.0**70, "\ud800"):
        with pytest.raises(InvalidServerKeys):
            check({**answer(), "extra": extra}, "hs.test", now_ms=NOW)


def test_old_keys_sign_events_of_their_time_and_no_requests() -> None:
    keys = check(publish("hs.test", [FIRST], [OLD], now_ms=NOW), "hs.test", now_ms=NOW)
    assert keys.event_key("ed25519:old", origin_server_ts=OLD.expired_ts) == OLD.verify_key
    with pytest.raises(UnknownKey):
        keys.event_key("ed25519:old", origin_server_ts=OLD.expired_ts + 1)
    with pytest.raises(UnknownKey):
        keys.request_key("ed25519:old", now_ms=NOW)


def test_current_keys_sign_until_their_validity_ends() -> None:
    keys = check(answer(), "hs.test", now_ms=NOW)
    assert keys.request_key(FIRST.key_id, now_ms=keys.valid_until_ts) == FIRST.verify_key
    assert keys.event_key(FIRST.key_id, origin_server_ts=keys.valid_until_ts) == FIRST.verify_key
    with pytest.raises(UnknownKey):
        keys.request_key(FIRST.key_id, now_ms=keys.valid_until_ts + 1)
    with pytest.raises(UnknownKey):
        keys.event_key(FIRST.key_id, origin_server_ts=keys.valid_until_ts + 1)


# Fetching and keeping them


class Servers:
    """Every server that there is: what each serves, or why it does not."""

    def __init__(self, **served: Any) -> None:
        self.served: dict[str, Any] = {name.replace("_", "."): said for name, said in served.items()}
        self.asked: list[str] = []

    async def server_keys(self, server_name: str) -> Any:
        self.asked.append(server_name)
        await asyncio.sleep(0)
        said = self.served.get(server_name, Unreachable("no such server"))
        if isinstance(said, Exception):
            raise said
        return said


async def test_keys_are_fetched_once_while_they_are_valid() -> None:
    servers = Servers(hs_test=answer(valid_until_ts=NOW + DAY))
    remote = RemoteKeys(servers)
    for passed in (0, HOUR, 2 * HOUR):
        assert await remote.verify_key("hs.test", FIRST.key_id, now_ms=NOW + passed) == FIRST.verify_key
    assert servers.asked == ["hs.test"]


async def test_keys_are_fetched_anew_when_they_have_expired() -> None:
    servers = Servers(hs_test=answer(FIRST, SECOND, valid_until_ts=NOW + DAY))
    remote = RemoteKeys(servers)
    await remote.verify_key("hs.test", FIRST.key_id, now_ms=NOW)
    servers.served["hs.test"] = answer(SECOND, valid_until_ts=NOW + 3 * DAY)
    assert await remote.verify_key("hs.test", SECOND.key_id, now_ms=NOW + 2 * DAY) == SECOND.verify_key
    with pytest.raises(UnknownKey):
        await remote.verify_key("hs.test", FIRST.key_id, now_ms=NOW + 2 * DAY)


async def test_an_unknown_key_is_looked_for_again_but_not_at_every_request() -> None:
    servers = Servers(hs_test=answer(FIRST))
    remote = RemoteKeys(servers)
    await remote.verify_key("hs.test", FIRST.key_id, now_ms=NOW)
    servers.served["hs.test"] = answer(FIRST, SECOND)
    for _ in range(5):
        with pytest.raises(UnknownKey):
            await remote.verify_key("hs.test", SECOND.key_id, now_ms=NOW + 1000)
    assert len(servers.asked) == 1
    assert await remote.verify_key("hs.test", SECOND.key_id, now_ms=NOW + HOUR) == SECOND.verify_key


@pytest.mark.parametrize(
    "failure",
    [Unreachable("down"), BadGateway("404"), ValueError("no JSON"), "nonsense", {"server_name": "hs.test"}],
)
async def test_a_failure_is_remembered_for_a_short_time(failure: Any) -> None:
    servers = Servers(hs_test=failure)
    remote = RemoteKeys(servers)
    for _ in range(3):
        with pytest.raises(UnknownKey):
            await remote.verify_key("hs.test", FIRST.key_id, now_ms=NOW)
    assert len(servers.asked) == 1
    servers.served["hs.test"] = answer()
    assert await remote.verify_key("hs.test", FIRST.key_id, now_ms=NOW + HOUR) == FIRST.verify_key


@pytest.mark.parametrize("failure", [Unreachable("down"), BadGateway("404"), "nonsense"])
async def test_valid_keys_outlive_a_failure_to_fetch_them_anew(failure: Any) -> None:
    servers = Servers(hs_test=answer(valid_until_ts=NOW + DAY))
    remote = RemoteKeys(servers)
    await remote.verify_key("hs.test", FIRST.key_id, now_ms=NOW)
    servers.served["hs.test"] = failure
    with pytest.raises(UnknownKey):
        await remote.verify_key("hs.test", SECOND.key_id, now_ms=NOW + HOUR)
    assert await remote.verify_key("hs.test", FIRST.key_id, now_ms=NOW + HOUR) == FIRST.verify_key


async def test_many_at_once_ask_a_server_once() -> None:
    servers = Servers(hs_test=answer())
    remote = RemoteKeys(servers)
    keys = await asyncio.gather(*(remote.verify_key("hs.test", FIRST.key_id, now_ms=NOW) for _ in range(20)))
    assert (set(keys), servers.asked) == ({FIRST.verify_key}, ["hs.test"])


async def test_one_who_gives_up_does_not_take_the_others_along() -> None:
    remote = RemoteKeys(Servers(hs_test=answer()))
    first, second = (asyncio.create_task(remote.verify_key("hs.test", FIRST.key_id, now_ms=NOW)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == FIRST.verify_key
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_an_expired_answer_proves_nothing() -> None:
    remote = RemoteKeys(Servers(hs_test=answer(valid_until_ts=NOW - 1)))
    with pytest.raises(UnknownKey):
        await remote.verify_key("hs.test", FIRST.key_id, now_ms=NOW)
