"""Push rules (Client-Server API, "Push Rules: API")."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query

from identity_server.homeserver.access.current import CurrentUser
from identity_server.homeserver.push import store
from identity_server.homeserver.push.pushers_api import router as pushers_router
from identity_server.homeserver.push.ruleset import check_actions, check_conditions, find_rule, new_rule, ruleset
from identity_server.homeserver.streams import OpenStreams
from identity_server.matrix.errors import InvalidParam
from identity_server.matrix.identifiers import Text
from identity_server.runtime.dependencies import Reading, Transaction
from identity_server.runtime.requests import Body, JsonRoute
from identity_server.runtime.routing import include

router = APIRouter(tags=["push"], route_class=JsonRoute)
include(router, pushers_router)

Kind = Literal["override", "underride", "sender", "room", "content"]
RuleID = Annotated[Text, Path(max_length=1024)]
Place = Annotated[Text | None, Query()]


class Rule(Body):
    actions: list[Any]
    conditions: list[Any] | None = None
    pattern: Text | None = None


class Enabled(Body):
    enabled: bool


class Actions(Body):
    actions: list[Any]


@router.get("/pushrules")
@router.get("/pushrules/")
async def get_rulesets(user: CurrentUser, session: Reading) -> dict[str, Any]:
    return await store.push_rules_content(session, user.user_id)


@router.get("/pushrules/global")
@router.get("/pushrules/global/")
async def get_rules(user: CurrentUser, session: Reading) -> dict[str, Any]:
    return ruleset((await store.rules_of(session, user.user_id)).customised, user.user_id)


@router.get("/pushrules/global/{kind}/{rule_id}")
async def get_rule(kind: Kind, rule_id: RuleID, user: CurrentUser, session: Reading) -> dict[str, Any]:
    return dict(find_rule((await store.rules_of(session, user.user_id)).customised, user.user_id, kind, rule_id))


@router.put("/pushrules/global/{kind}/{rule_id}")
async def put_rule(
    kind: Kind,
    rule_id: RuleID,
    body: Rule,
    user: CurrentUser,
    session: Transaction,
    streams: OpenStreams,
    before: Place = None,
    after: Place = None,
) -> dict[str, Any]:
    if any(place is not None and place.startswith(".") for place in (before, after)):
        raise InvalidParam("No rule can be placed relative to a predefined one")
    conditions = check_conditions(body.conditions or [])
    rule = new_rule(kind, rule_id, check_actions(body.actions), conditions, body.pattern)
    await store.change_rules(
        session, streams, user.user_id, lambda rules: rules.put(kind, rule, before=before, after=after)
    )
    return {}


@router.delete("/pushrules/global/{kind}/{rule_id}")
async def delete_rule(
    kind: Kind, rule_id: RuleID, user: CurrentUser, session: Transaction, streams: OpenStreams
) -> dict[str, Any]:
    await store.change_rules(session, streams, user.user_id, lambda rules: rules.remove(kind, rule_id))
    return {}


@router.get("/pushrules/global/{kind}/{rule_id}/enabled")
async def get_enabled(kind: Kind, rule_id: RuleID, user: CurrentUser, session: Reading) -> dict[str, Any]:
    rules = (await store.rules_of(session, user.user_id)).customised
    return {"enabled": find_rule(rules, user.user_id, kind, rule_id)["enabled"]}


@router.put("/pushrules/global/{kind}/{rule_id}/enabled")
async def put_enabled(
    kind: Kind, rule_id: RuleID, body: Enabled, user: CurrentUser, session: Transaction, streams: OpenStreams
) -> dict[str, Any]:
    await store.change_rules(
        session,
        streams,
        user.user_id,
        lambda rules: rules.change(kind, rule_id, user.user_id, "enabled", body.enabled),
    )
    return {}


@router.get("/pushrules/global/{kind}/{rule_id}/actions")
async def get_actions(kind: Kind, rule_id: RuleID, user: CurrentUser, session: Reading) -> dict[str, Any]:
    rules = (await store.rules_of(session, user.user_id)).customised
    return {"actions": find_rule(rules, user.user_id, kind, rule_id)["actions"]}


@router.put("/pushrules/global/{kind}/{rule_id}/actions")
async def put_actions(
    kind: Kind, rule_id: RuleID, body: Actions, user: CurrentUser, session: Transaction, streams: OpenStreams
) -> dict[str, Any]:
    actions = check_actions(body.actions)
    await store.change_rules(
        session, streams, user.user_id, lambda rules: rules.change(kind, rule_id, user.user_id, "actions", actions)
    )
    return {}
