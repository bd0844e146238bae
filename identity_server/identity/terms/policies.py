"""Which policies there are, and which of them an account has still to accept."""

from collections.abc import Set
from typing import Any

from identity_server.settings import PolicySettings, TermsSettings


def offered(terms: TermsSettings) -> dict[str, Any]:
    """The policies as GET /terms shows them."""
    return {policy_id: _as_json(policy) for policy_id, policy in terms.policies.items()}


def unsigned(terms: TermsSettings, accepted: Set[str]) -> list[str]:
    """The IDs of policies of which no language was accepted.

    Accepting one language accepts the policy (Identity Service API, POST /terms).
    """
    return [
        policy_id
        for policy_id, policy in terms.policies.items()
        if accepted.isdisjoint(text.url for text in policy.languages.values())
    ]


def known_urls(terms: TermsSettings) -> set[str]:
    return {text.url for policy in terms.policies.values() for text in policy.languages.values()}


def _as_json(policy: PolicySettings) -> dict[str, Any]:
    texts = {language: {"name": text.name, "url": text.url} for language, text in policy.languages.items()}
    return {"version": policy.version, **texts}
