"""The table of routes answers as looking through them one by one would."""

from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from httpx import ASGITransport, AsyncClient
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import Match

from identity_server.runtime.routing import RouteTable, all_routes, include

PARTS = ["a", "b", "{one}", "{two}", "x{three}", "", "{rest:path}"]
templates = st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))
paths = st.lists(st.sampled_from(["a", "b", "xy", "", "é", "a b"]), max_size=5).map(lambda parts: "/" + "/".join(parts))


async def endpoint() -> dict[str, Any]:
    return {}


def one_by_one(routes: list[Any], scope: dict[str, Any]) -> tuple[Match, Any]:
    found: tuple[Match, Any] = (Match.NONE, None)
    for route in routes:
        match, child_scope = route.matches(scope)
        if match == Match.FULL:
            return match, child_scope["route"]
        if match == Match.PARTIAL and found[0] == Match.NONE:
            found = match, child_scope["route"]
    return found


@given(
    added=st.lists(st.tuples(templates, st.sampled_from(["GET", "PUT"])), max_size=8),
    path=paths,
    method=st.sampled_from(["GET", "PUT"]),
)
def test_the_first_route_that_matches_counts(added: list[tuple[str, str]], path: str, method: str) -> None:
    router = APIRouter()
    for template, of in added:
        # Each name once in a path.
        parts = template.split("/")
        if len({part for part in parts if "{" in part}) < sum("{" in part for part in parts):
            continue
        router.add_api_route(template, endpoint, methods=[of])
    routes = list(all_routes(router))
    scope = {"type": "http", "method": method, "path": path, "root_path": "", "headers": [], "query_string": b""}
    match, child_scope = RouteTable(routes).matches(scope)
    assert (match, child_scope.get("route")) == one_by_one(routes, scope)


async def test_routers_are_put_together_under_their_prefixes() -> None:
    inner, outer, other = APIRouter(prefix="/inner", tags=["i"]), APIRouter(prefix="/v1", tags=["o"]), APIRouter()

    @inner.get("/{name}")
    async def greet(name: str) -> dict[str, str]:
        return {"hello": name}

    include(outer, inner)
    include(other, inner)
    app = FastAPI()
    app.router.routes.insert(0, RouteTable(all_routes(outer, other)))
    async with AsyncClient(transport=ASGITransport(app), base_url="https://is.test") as client:
        assert (await client.get("/v1/inner/alice")).json() == {"hello": "alice"}
        assert (await client.get("/inner/alice")).json() == {"hello": "alice"}
        assert (await client.put("/inner/alice")).status_code == 405
        assert (await client.get("/v1/inner")).status_code == 404
    [placed] = all_routes(outer)
    assert (placed.path, placed.tags) == ("/v1/inner/{name}", ["o", "i"])


def test_a_router_within_a_router_is_not_overlooked() -> None:
    inner, outer = APIRouter(), APIRouter()
    inner.add_api_route("/", endpoint)
    outer.include_router(inner)
    with pytest.raises(AssertionError):
        list(all_routes(outer))


async def test_a_slash_that_was_sent_encoded_parts_no_path() -> None:
    router = APIRouter()

    @router.get("/send/{kind}/{txn_id:path}")
    async def send(kind: str, txn_id: str) -> list[str]:
        return [kind, txn_id]

    app = FastAPI()
    app.router.routes.append(RouteTable(all_routes(router)))
    async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
        for sent in ("/send/m%2Fx%20%C3%A9/1%2f2/3", "/send/m%2Fx%20%C3%A9/1/2%2F3"):
            assert (await client.get(sent)).json() == ["m/x é", "1/2/3"]
        assert (await client.get("/send%2Fm/x/1")).status_code == 404
