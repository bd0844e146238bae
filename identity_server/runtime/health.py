"""Is the process alive, and can it do its work?"""

import asyncio

from fastapi import APIRouter, Response
from sqlalchemy import text

from identity_server.runtime.dependencies import OpenDatabase
from identity_server.runtime.errors import json_response

router = APIRouter(tags=["health"])

_PATIENCE_SECONDS = 5


@router.get("/health")
async def health() -> Response:
    return json_response({"status": "ok"})


@router.get("/ready")
async def ready(database: OpenDatabase) -> Response:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS), database.reading() as session:
            await session.execute(text("SELECT 1"))
    except Exception:
        return json_response({"status": "the database does not answer"}, 503)
    return json_response({"status": "ok"})
