"""The short way answers as the long one does."""

from pathlib import Path

import pytest

from identity_server.identity.lookup import api
from tests.world import MakeServer

LOOKUP = "/_matrix/identity/v2/lookup"


@pytest.fixture
def engine() -> str:
    return "sqlite"


async def test_what_is_raised_is_answered_in_the_specifications_form(
    make_server: MakeServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with make_server(
        server={"name": "is.test", "public_base_url": "https://is.test", "max_body_bytes": 1000, "data_dir": tmp_path}
    ) as is_:
        headers = await is_.account()
        for body, bearing, status, errcode in (
            (b"{}", {}, 401, "M_UNAUTHORIZED"),
            (b"{", headers, 400, "M_NOT_JSON"),
            (b"[]", headers, 400, "M_BAD_JSON"),
            (b"{}", headers, 400, "M_MISSING_PARAMS"),
            (b" " * 1001, headers, 413, "M_TOO_LARGE"),
        ):
            answer = await is_.client.post(LOOKUP, content=body, headers=bearing)
            assert (answer.status_code, answer.json()["errcode"]) == (status, errcode)
            assert answer.headers["access-control-allow-origin"] == "*"
        answer = await is_.client.get(LOOKUP, headers=headers)
        assert (answer.status_code, answer.json()["errcode"]) == (405, "M_UNRECOGNIZED")

        async def fail(*_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(api, "authenticate", fail)
        answer = await is_.client.post(LOOKUP, json={}, headers=headers)
        assert (answer.status_code, answer.json()["errcode"]) == (500, "M_UNKNOWN")
