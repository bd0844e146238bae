"""The identity server's table of contents, in the specification's order."""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter

from identity_server.identity.accounts import api as accounts
from identity_server.identity.bindings import api as bindings
from identity_server.identity.compatibility import v1
from identity_server.identity.invites import api as invites
from identity_server.identity.lookup import api as lookup
from identity_server.identity.replication import api as replication
from identity_server.identity.signing import api as signing
from identity_server.identity.terms import api as terms
from identity_server.identity.validation import api as validation
from identity_server.identity.web import api as web
from identity_server.settings import Settings

# API Version check; "r" are the versions from before v1.1.
VERSIONS = ["r0.1.0", "r0.2.0", "r0.2.1", "r0.3.0", *(f"v1.{minor}" for minor in range(1, 20))]

status = APIRouter(prefix="/_matrix/identity", tags=["status"])


@status.get("/versions")
async def get_versions() -> dict[str, list[str]]:
    return {"versions": VERSIONS}


@status.get("/v2")
async def ping() -> dict[str, Any]:
    return {}


# What is asked for most goes past the framework (``runtime.shortcut``).
SHORTCUTS = (lookup.look_up,)
# Where links need no click, following one validates the session.
ACTING = (web.open_link,)


def routers(settings: Settings) -> Sequence[APIRouter]:
    return (
        status,
        accounts.router,
        terms.router,
        signing.router,
        lookup.router,
        validation.router,
        web.router,
        bindings.router,
        invites.router,
        signing.by_id,
        replication.router,
        *v1.offered(settings.compatibility),
    )
