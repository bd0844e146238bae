"""Terms of service (Identity Service API, "Terms of service")."""

from typing import Any

from fastapi import APIRouter

from identity_server.identity.access.current import AnyAccount
from identity_server.identity.terms import store
from identity_server.identity.terms.policies import known_urls, offered
from identity_server.runtime.dependencies import Now, OpenSettings, Transaction
from identity_server.runtime.requests import Body, JsonRoute

router = APIRouter(prefix="/_matrix/identity/v2/terms", tags=["terms"], route_class=JsonRoute)


class Agreement(Body):
    user_accepts: list[str]


@router.get("")
async def get_terms(settings: OpenSettings) -> dict[str, Any]:
    return {"policies": offered(settings.terms)}


@router.post("")
async def agree_to_terms(
    body: Agreement, account: AnyAccount, session: Transaction, settings: OpenSettings, now_ms: Now
) -> dict[str, Any]:
    # Added to what was accepted before, never replacing it. URLs that we never offered are not worth a row.
    urls = known_urls(settings.terms).intersection(body.user_accepts)
    await store.add_acceptances(session, account.user_id, urls, now_ms=now_ms)
    return {}
