"""Whatever is wrong with a request, it is the request's fault."""

import copy
import random
from collections.abc import Iterator
from typing import Any

from httpx import AsyncClient

from identity_server.homeserver.encryption.incoming import incoming_edus
from identity_server.matrix.canonical_json import NotCanonical, check_canonical
from identity_server.matrix.errors import MatrixError
from tests.homeserver.conftest import Register
from tests.homeserver.encryption.elsewhere import NAME, OtherServer, ask_as_server
from tests.homeserver.encryption.phones import Identity, meet, phone

_ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 2**53, 2**63, 2**70, "", "\0", "a\0b", "@", "@a:b", "ed25519:", "x" * 300, [], [1], {},
    {"": 1}, {"\0": {}}, {"a:b": "\0"}, {"@bob:other.test": {"*": {}}}, {"x" * 300: {}}, [[[]]],
)  # fmt: skip


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something else could stand in ``value``."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in items:
        yield from _places(inner, (*path, name))


def _spoilt(body: Any, chance: random.Random, count: int) -> Iterator[Any]:
    """``body`` with one thing in it replaced, removed, or under another name."""
    places = [path for path in _places(body) if path]
    for _ in range(count):
        spoilt = copy.deepcopy(body)
        *way, last = chance.choice(places)
        inner = spoilt
        for name in way:
            inner = inner[name]
        match chance.choice(("replace", "rename", "remove")):
            case "rename" if isinstance(inner, dict):
                inner[chance.choice([odd for odd in _ODD if isinstance(odd, str)])] = inner.pop(last)
            case "remove":
                del inner[last]
            case _:
                inner[last] = chance.choice(_ODD)
        yield spoilt


async def test_no_request_fails_for_what_is_in_it(
    client: AsyncClient, register: Register, state: dict[str, Any], other: OtherServer
) -> None:
    alice = await phone(client, register)
    identity, me = Identity(alice.user_id), alice.user_id
    await alice.ok("POST", "/keys/device_signing/upload", identity.keys())
    await alice.ok("POST", "/room_keys/version", {"algorithm": "a", "auth_data": {}})
    key = {"first_message_index": 1, "forwarded_count": 0, "is_verified": False, "session_data": {"a": "b"}}
    signed = {
        alice.user_id: {"PHONE": alice.device_keys(), next(iter(identity.master_key["keys"]))[8:]: identity.master_key}
    }
    chance = random.Random(1)
    requests: list[tuple[str, str, Any]] = [
        ("POST", "/keys/upload", {"device_keys": alice.device_keys(), "one_time_keys": alice.one_time_keys("A")}),
        ("POST", "/keys/upload", {"fallback_keys": alice.one_time_keys("F")}),
        ("POST", "/keys/query", {"device_keys": {me: ["PHONE"], "@bob:other.test": []}, "timeout": 10}),
        ("POST", "/keys/claim", {"one_time_keys": {me: {"PHONE": "signed_curve25519"}}, "timeout": 10}),
        ("POST", "/keys/device_signing/upload", Identity(me, "other").keys()),
        ("POST", "/keys/signatures/upload", signed),
        ("PUT", "/sendToDevice/m.test/{n}", {"messages": {me: {"PHONE": {"a": {"b": "c"}}, "*": {}}}}),
        ("POST", "/room_keys/version", {"algorithm": "a", "auth_data": {"public_key": "b"}}),
        ("PUT", "/room_keys/version/1", {"algorithm": "a", "auth_data": {"public_key": "b"}, "version": "1"}),
        ("PUT", "/room_keys/keys?version=1", {"rooms": {"!room": {"sessions": {"session": key}}}}),
        ("PUT", "/room_keys/keys/!room/session?version=1", key),
    ]
    for method, path, body in requests:
        for number, spoilt in enumerate(_spoilt(body, chance, 25)):
            answer = await alice.ask(method, path.replace("{n}", str(number)), spoilt)
            assert answer.status_code < 500, (path, spoilt, answer.text)
            assert answer.status_code in (200, 401) or answer.json()["errcode"], (path, spoilt)
    for path in ("/room_keys/keys/a%00b?version=1", "/room_keys/version/%00", "/room_keys/version/9999999999999999999"):
        assert (await alice.ask("GET", path)).status_code in (400, 404)

    await meet(state, me, f"@bob:{NAME}")
    device = {"device_id": "B", "keys": alice.device_keys(), "device_display_name": "B"}
    listed = {"user_id": f"@bob:{NAME}", "stream_id": 1, "devices": [device], "master_key": identity.master_key}
    for spoilt in _spoilt(listed, chance, 25):
        other.answers[f"devices/@bob:{NAME}"] = spoilt
        answer = await alice.ask("POST", "/keys/query", {"device_keys": {f"@bob:{NAME}": []}})
        assert answer.status_code == 200, (spoilt, answer.text)
    asked = {"one_time_keys": {me: {"PHONE": "signed_curve25519"}}}
    for spoilt in _spoilt(asked, chance, 10):
        try:
            check_canonical(spoilt)
        except NotCanonical:
            continue  # nobody can sign it
        answer = await ask_as_server(client, "POST", "keys/claim", spoilt)
        assert answer.status_code < 500, (spoilt, answer.text)
    told = {"device_id": "B", "stream_id": 3, "prev_id": [2], "keys": {}, "user_id": f"@bob:{NAME}"}
    sent = {"sender": f"@bob:{NAME}", "type": "m.test", "message_id": "1", "messages": {me: {"*": {"a": 1}}}}
    edus = incoming_edus(state["streams"], state["resources"].clock, server_name="hs.test")
    for edu_type, content in (
        ("m.device_list_update", told),
        ("m.direct_to_device", sent),
        ("m.signing_key_update", {"user_id": f"@bob:{NAME}", "master_key": identity.master_key}),
    ):
        for spoilt in _spoilt(content, chance, 25):
            try:
                async with state["resources"].database.transaction() as session:
                    await edus[edu_type](session, NAME, spoilt)
            except MatrixError:
                pass
