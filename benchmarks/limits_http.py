"""L1: what HTTP itself costs, under the same uvicorn: a raw ASGI application, and FastAPI with a prepared answer."""

import sys
from collections.abc import Callable
from typing import Any

import uvicorn
from fastapi import FastAPI, Response


async def raw(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


fastapi = FastAPI(openapi_url=None)
_PREPARED = Response(b"{}", media_type="application/json")


@fastapi.api_route("/", methods=["GET", "POST"])
async def answer() -> Response:
    return _PREPARED


if __name__ == "__main__":
    applications: dict[str, Callable[..., Any]] = {"raw": raw, "fastapi": fastapi}
    uvicorn.run(
        applications[sys.argv[1]],
        host="127.0.0.1",
        port=int(sys.argv[2]),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
    )
