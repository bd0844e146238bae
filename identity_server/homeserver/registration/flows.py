"""What is asked of whoever registers, as the settings have it (Client-Server API, "Authentication types")."""

import hmac
from collections.abc import Sequence
from typing import Any

from identity_server.homeserver.accounts.interactive import DUMMY, Attempt, Stage, Wanted, pass_dummy
from identity_server.homeserver.accounts.threepid_stages import STAGE_OF, threepid_stage
from identity_server.homeserver.validation.own_account import OwnAccount
from identity_server.matrix.errors import Unauthorized
from identity_server.matrix.threepid import EMAIL, MSISDN
from identity_server.settings import HomeserverSettings

REGISTRATION_TOKEN = "m.login.registration_token"
TERMS = "m.login.terms"


def registration_flows(settings: HomeserverSettings) -> list[Sequence[str]]:
    """First what everybody needs, then what has to be proven; an email address is welcome where none has to be."""
    before = [
        *([REGISTRATION_TOKEN] if settings.registration_tokens else []),
        *([TERMS] if settings.registration_policies else []),
    ]
    if required := [STAGE_OF[medium] for medium in dict.fromkeys(settings.registration_requires)]:
        return [[*before, *required]]
    flows: list[Sequence[str]] = [[*before, DUMMY]]
    if settings.identity_servers:
        flows.append([*before, STAGE_OF[EMAIL]])
    return flows


def wanted_of(settings: HomeserverSettings, own: OwnAccount) -> Wanted:
    """What ``prove`` asks for before an account is made."""
    stages: dict[str, Stage] = {
        DUMMY: pass_dummy,
        TERMS: pass_dummy,  # submitting it is accepting
        REGISTRATION_TOKEN: _token_stage(settings.registration_tokens),
        **{STAGE_OF[medium]: threepid_stage(own, medium) for medium in (EMAIL, MSISDN)},
    }
    flows = registration_flows(settings)
    offered = {stage for flow in flows for stage in flow}
    return Wanted(
        "POST /register",
        flows,
        {stage: passed for stage, passed in stages.items() if stage in offered},
        {TERMS: {"policies": _policies(settings)}} if TERMS in offered else {},
    )


def is_valid_token(token: str, tokens: Sequence[str]) -> bool:
    """Whether ``token`` is one of ``tokens``, found out in a time that tells nothing of them."""
    return True in [hmac.compare_digest(token.encode(), known.encode()) for known in tokens]


def _token_stage(tokens: Sequence[str]) -> Stage:
    async def pass_token(attempt: Attempt) -> None:
        token = attempt.also("token")
        if not isinstance(token, str) or not is_valid_token(token, tokens):
            raise Unauthorized("The registration token is not valid")

    return pass_token


def _policies(settings: HomeserverSettings) -> dict[str, Any]:
    return {
        policy_id: {
            "version": policy.version,
            **{language: text.model_dump() for language, text in policy.languages.items()},
        }
        for policy_id, policy in settings.registration_policies.items()
    }
