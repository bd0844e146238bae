from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from identity_server.cli.main import app
from identity_server.matrix.threepid import lookup_hash
from tests.world import IdentityServer, MakeServer, hashed

V2 = "/_matrix/identity/v2"


@pytest.mark.parametrize(
    ("address", "medium", "expected"),
    [
        ("alice@example.com", "email", "4kenr7N9drpCJ4AfalmlGQVsOn3o2RHjkADUpXJWZUc"),
        ("bob@example.com", "email", "LJwSazmv46n0hlMlsb_iYxI0_HXEqy_yj6Jm636cdT8"),
        ("18005552067", "msisdn", "nlo35_T5fzSGZzJApqu8lgIudJvmOQtDaHtr-I4rU7I"),
    ],
)
def test_hashes_are_those_of_the_specification(address: str, medium: str, expected: str) -> None:
    assert lookup_hash(address, medium, "matrixrocks") == expected


async def test_hash_details_hand_out_the_pepper(server: IdentityServer) -> None:
    headers = await server.account()
    details = (await server.client.get(f"{V2}/hash_details", headers=headers)).json()
    assert details["algorithms"] == ["sha256"]
    assert len(details["lookup_pepper"]) >= 32
    assert (await server.client.get(f"{V2}/hash_details")).status_code == 401


async def look_up(server: IdentityServer, headers: dict[str, str], **body: Any) -> Any:
    return await server.client.post(f"{V2}/lookup", json=body, headers=headers)


async def test_an_unknown_pepper_is_answered_with_the_right_one(server: IdentityServer) -> None:
    headers = await server.account()
    answer = await look_up(server, headers, algorithm="sha256", pepper="stale", addresses=[])
    details = (await server.client.get(f"{V2}/hash_details", headers=headers)).json()
    assert answer.status_code == 400
    assert (
        answer.json().items()
        >= {
            "errcode": "M_INVALID_PEPPER",
            "algorithm": "sha256",
            "lookup_pepper": details["lookup_pepper"],
        }.items()
    )


async def test_both_case_foldings_find_an_address(server: IdentityServer) -> None:
    headers = await server.bound("@alice:hs.test", "Strauß@Example.org")
    assert await server.found(headers, "strauss@example.org", "strauß@example.org") == {
        "strauss@example.org": "@alice:hs.test",
        "strauß@example.org": "@alice:hs.test",
    }


async def test_the_algorithm_none_is_refused_unless_configured(server: IdentityServer) -> None:
    headers = await server.account()
    pepper = (await server.client.get(f"{V2}/hash_details", headers=headers)).json()["lookup_pepper"]
    for algorithm in ("none", "sha512", "SHA256", ""):
        answer = await look_up(server, headers, algorithm=algorithm, pepper=pepper, addresses=["a@b.c email"])
        assert (answer.status_code, answer.json()["errcode"]) == (400, "M_INVALID_PARAM")


@pytest.mark.parametrize("algorithms", [["none"], []])
def test_a_server_that_does_not_take_hashes_is_not_started(algorithms: list[str], tmp_path: Path) -> None:
    file = tmp_path / "identity-server.toml"
    file.write_text(f"[server]\ndata_dir = '{tmp_path}'\n[lookup]\nalgorithms = {algorithms}\n")
    # Whatever reads the settings refuses them; `serve` would not end if it did not.
    done = CliRunner().invoke(app, ["--config", str(file), "migrate"])
    assert (done.exit_code, "lookup.algorithms" in done.stderr) == (1, True)
    assert '"sha256" has to be among them' in done.stderr


async def test_where_configured_addresses_are_looked_up_in_the_clear(make_server: MakeServer) -> None:
    async with make_server(lookup={"algorithms": ["sha256", "none"]}) as server:
        headers = await server.bound("@alice:hs.test")
        pepper = (await server.client.get(f"{V2}/hash_details", headers=headers)).json()["lookup_pepper"]
        asked = [
            "Alice@Example.org email",
            "nobody@example.org email",
            "nonsense",
            "x\0@y.z email",
            "12 \0",
            "12 msisdn",
        ]
        answer = await look_up(server, headers, algorithm="none", pepper=pepper, addresses=asked)
    assert answer.json() == {"mappings": {"Alice@Example.org email": "@alice:hs.test"}}


async def test_many_addresses_are_looked_up_at_once_and_each_is_answered_once(server: IdentityServer) -> None:
    headers = await server.bound("@alice:hs.test")
    pepper = (await server.client.get(f"{V2}/hash_details", headers=headers)).json()["lookup_pepper"]
    ours = hashed("alice@example.org", "email", pepper)
    others = [hashed(f"{n}@example.org", "email", pepper) for n in range(9_996)]
    odd = ["", "\0" * 43, "é" * 43]
    answer = await look_up(
        server, headers, algorithm="sha256", pepper=pepper, addresses=[ours, ours, *others[:-1], *odd]
    )
    assert answer.json() == {"mappings": {ours: "@alice:hs.test"}}
    assert answer.text.count(ours) == 1
    answer = await look_up(server, headers, algorithm="sha256", pepper=pepper, addresses=[*others, *others[:5]])
    assert (answer.status_code, answer.json()["errcode"]) == (413, "M_TOO_LARGE")


@pytest.mark.parametrize(
    ("body", "errcode"),
    [
        ({}, "M_MISSING_PARAMS"),
        ({"pepper": "x", "addresses": []}, "M_MISSING_PARAMS"),
        ({"algorithm": "sha256", "addresses": []}, "M_MISSING_PARAMS"),
        ({"algorithm": "sha256", "pepper": "x"}, "M_MISSING_PARAMS"),
        ({"algorithm": 1, "pepper": "x", "addresses": []}, "M_INVALID_PARAM"),
        ({"algorithm": "sha256", "pepper": None, "addresses": []}, "M_INVALID_PARAM"),
        ({"algorithm": "sha256", "pepper": "x", "addresses": "abc"}, "M_INVALID_PARAM"),
        ({"algorithm": "sha256", "pepper": "x", "addresses": [1]}, "M_INVALID_PARAM"),
        ({"algorithm": "sha256", "pepper": "x", "addresses": {"a": "b"}}, "M_INVALID_PARAM"),
    ],
)
async def test_a_malformed_lookup_says_what_is_wrong(
    server: IdentityServer, body: dict[str, Any], errcode: str
) -> None:
    answer = await look_up(server, await server.account(), **body)
    assert (answer.status_code, answer.json()["errcode"]) == (400, errcode)


@pytest.mark.parametrize("count", [1, 900])
async def test_what_nobody_asked_for_may_come_with_a_lookup_if_it_is_json(server: IdentityServer, count: int) -> None:
    headers = await server.bound("@alice:hs.test")
    pepper = (await server.client.get(f"{V2}/hash_details", headers=headers)).json()["lookup_pepper"]
    known = hashed("alice@example.org", "email", pepper)
    body = orjson.dumps({"algorithm": "sha256", "pepper": pepper, "addresses": [known] * count, "more": ["?"]})
    answer = await server.client.post(f"{V2}/lookup", content=body, headers=headers)
    assert answer.json() == {"mappings": {known: "@alice:hs.test"}}
    answer = await server.client.post(f"{V2}/lookup", content=body.replace(b"?", b"\xff"), headers=headers)
    assert (answer.status_code, answer.json()["errcode"]) == (400, "M_NOT_JSON")


@pytest.mark.parametrize("spoilt", ["", '"', "[]", "5", "null", '"a\\u0041"', '"\udcff"', '"a" "b"', '"a"b'])
async def test_many_addresses_are_read_like_few(server: IdentityServer, spoilt: str) -> None:
    """Hashes that come in thousands are read in another way than a few, or than anything else."""
    headers = await server.bound("@alice:hs.test")
    pepper = (await server.client.get(f"{V2}/hash_details", headers=headers)).json()["lookup_pepper"]
    known = hashed("alice@example.org", "email", pepper)
    statuses, answers = [], []
    for count in (3, 900):
        others = [hashed(f"{number}@example.org", "email", pepper) for number in range(count)]
        addresses = ", ".join([f'"{hash_}"' for hash_ in [known, *others, known]] + [spoilt] * bool(spoilt))
        body = f'{{"algorithm": "sha256", "pepper": "{pepper}", "addresses": [{addresses}]}}'
        answer = await server.client.post(
            f"{V2}/lookup", content=body.encode(errors="surrogateescape"), headers=headers
        )
        statuses.append(answer.status_code)
        answers.append(answer.text)
    assert answers[0] == answers[1]
    expected = 200 if spoilt in ("", '"a\\u0041"') else 400
    assert statuses == [expected, expected]
    if expected == 200:
        assert answers[0].count(known) == 1
        assert orjson.loads(answers[0]) == {"mappings": {known: "@alice:hs.test"}}
