"""Rooms, for clients (Client-Server API, "Rooms"), in the specification's order."""

from fastapi import APIRouter

from identity_server.homeserver.rooms.endpoints import (
    creation,
    discovery,
    events,
    history,
    membership,
    relations,
    reports,
)
from identity_server.runtime.routing import include

router = APIRouter()
for _part in (creation, events, history, membership, discovery, reports):
    include(router, _part.router)

router_v1 = APIRouter()
"""What is younger, and lies under ``v1``."""
for _router in (relations.router, discovery.router_v1):
    include(router_v1, _router)
