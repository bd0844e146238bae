"""Which route a request goes to, found by the parts of its path.

FastAPI's own ``include_router`` keeps routers inside routers. It makes each route once more for every application, when
it is first looked at (0.4 s of processor time for the homeserver's), and looks through them one by one for each
request (up to 0.7 ms). Here the routes stand in one table, and a request costs a few µs.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import dataclass, field
from urllib.parse import unquote

from fastapi import APIRouter
from fastapi.routing import APIRoute
from fastapi.utils import generate_unique_id
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, compile_path
from starlette.types import Receive, Scope, Send


def include(into: APIRouter, *routers: APIRouter) -> None:
    """Let ``into`` have the routes of ``routers``, under its own prefix, and with its tags."""
    into.routes.extend(_under(into, route) for route in all_routes(*routers))


def all_routes(*routers: APIRouter) -> Iterator[APIRoute]:
    for router in routers:
        for route in router.routes:
            assert isinstance(route, APIRoute), "routers are put together by `include`"
            yield route


def allow_closing_slash(router: APIRouter) -> None:
    """Let ``router`` also answer at its paths with a slash behind them, which is written down nowhere."""
    for route in list(all_routes(router)):
        closed = _at(route, f"{route.path}/")
        closed.include_in_schema = False
        router.routes.append(closed)


def _under(router: APIRouter, route: APIRoute) -> APIRoute:
    placed = _at(route, router.prefix + route.path)
    placed.tags = [*router.tags, *route.tags]
    return placed


def _at(route: APIRoute, path: str) -> APIRoute:
    placed = copy(route)
    placed.path = path
    placed.path_regex, placed.path_format, placed.param_convertors = compile_path(placed.path)
    placed.unique_id = placed.operation_id or generate_unique_id(placed)
    return placed


# Stands for a slash inside a part; no text has this character ("noncharacter" of Unicode).
_SLASH_WITHIN = "\ufdd0"
_ENCODED_SLASH = re.compile(rb"%2[fF]")


@dataclass
class _Node:
    """The routes whose paths begin alike. ``ends``: those that end here; ``rests``: those that take whatever follows;
    each with its place in the order of all."""

    literals: dict[str, "_Node"] = field(default_factory=dict)
    parameter: "_Node | None" = None
    ends: list[tuple[int, APIRoute]] = field(default_factory=list)
    rests: list[tuple[int, APIRoute]] = field(default_factory=list)


class RouteTable(BaseRoute):
    """Stands for all its routes. Of several that a path matches the first one counts, as ever.

    HEAD is answered as GET (RFC 9110, section 9.3.2), without the body, which the server drops; but not by the
    endpoints of ``acting``, whose GET may change something: HEAD must not (section 9.2.1).
    """

    def __init__(self, routes: Iterable[APIRoute], acting: Iterable[Callable[..., object]] = ()) -> None:
        self.routes = list(routes)
        self._acting = frozenset(acting)
        self._root = _Node()
        for number, route in enumerate(self.routes):
            self._add(number, route)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] != "http":
            return Match.NONE, {}
        best: tuple[Match, Scope] = (Match.NONE, {})
        if b"%2f" in scope.get("raw_path", b"").lower():
            return self._matches_within_parts(scope)
        is_head = scope["method"] == "HEAD"
        asked = {**scope, "method": "GET"} if is_head else scope
        allowed = {"OPTIONS"}  # which is answered before it comes here
        for _, route in sorted(_candidates(self._root, scope["path"].split("/")), key=lambda found: found[0]):
            match, child_scope = route.matches(asked)
            if match == Match.FULL and not (is_head and route.endpoint in self._acting):
                return match, child_scope
            if match != Match.NONE:
                allowed |= self._methods(route)
                if best[0] == Match.NONE:
                    best = Match.PARTIAL, {**child_scope, "allowed_methods": allowed}
        return best

    def _methods(self, route: APIRoute) -> set[str]:
        methods = set(route.methods or ())
        return methods | {"HEAD"} if "GET" in methods and route.endpoint not in self._acting else methods

    def _matches_within_parts(self, scope: Scope) -> tuple[Match, Scope]:
        """As ``matches``, where a slash that was sent encoded does not part the path: types of events may have one."""
        path = unquote(_ENCODED_SLASH.sub(_SLASH_WITHIN.encode(), scope["raw_path"]))
        match, child_scope = self.matches({**scope, "path": path, "raw_path": b""})
        parameters = child_scope.get("path_params", {})
        within = {
            name: value.replace(_SLASH_WITHIN, "/") if isinstance(value, str) else value
            for name, value in parameters.items()
        }
        return match, {**child_scope, "path_params": within} if child_scope else child_scope

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (allowed := scope.get("allowed_methods")) is not None:
            raise HTTPException(405, headers={"Allow": ", ".join(sorted(allowed))})
        # Past the route's own look at the method, which knows nothing of HEAD.
        await scope["route"].app(scope, receive, send)

    def _add(self, number: int, route: APIRoute) -> None:
        node = self._root
        for part in route.path.split("/"):
            if ":path}" in part:
                node.rests.append((number, route))
                return
            if "{" in part:
                node.parameter = node = node.parameter or _Node()
            else:
                node = node.literals.setdefault(part, _Node())
        node.ends.append((number, route))


def _candidates(node: _Node, parts: list[str], at: int = 0) -> Iterator[tuple[int, APIRoute]]:
    """The routes that may match; whether they do, their own patterns say."""
    yield from node.rests
    if at == len(parts):
        yield from node.ends
        return
    if (literal := node.literals.get(parts[at])) is not None:
        yield from _candidates(literal, parts, at + 1)
    if node.parameter is not None:
        yield from _candidates(node.parameter, parts, at + 1)
