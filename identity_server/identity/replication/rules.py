"""What a peer may speak about: pure."""

from pydantic import BaseModel, ConfigDict

from identity_server.identity.associations.statement import Statement
from identity_server.matrix.errors import MatrixError
from identity_server.matrix.identifiers import check_user_id
from identity_server.matrix.threepid import EMAIL, MSISDN, canonical


class Rules(BaseModel):
    """Empty means anything. ``max_statements`` bounds how much of our database the peer may fill."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mediums: tuple[str, ...] = ()
    email_domains: tuple[str, ...] = ()
    number_prefixes: tuple[str, ...] = ()
    homeservers: tuple[str, ...] = ()
    max_statements: int = 50_000_000


def objection(statement: Statement, rules: Rules, *, latest_ts: int) -> str | None:
    """Why ``statement`` is not taken from a peer under ``rules``, or None. ``latest_ts``: the newest time that is
    believed, now and the skew that clocks are granted."""
    medium, address = statement.threepid
    if statement.ts > latest_ts:
        return "its time lies in the future"
    if statement.ts < 0:
        return "its time lies before all time"
    if rules.mediums and medium not in rules.mediums:
        return "the peer may not speak about this medium"
    try:
        if canonical(medium, address) != statement.threepid:
            return "the address is not in canonical form"
        homeserver = None if statement.user_id is None else check_user_id(statement.user_id).partition(":")[2]
    except (MatrixError, ValueError):
        return "the address or the user ID is malformed"
    if medium == EMAIL and rules.email_domains and address.partition("@")[2] not in rules.email_domains:
        return "the peer may not speak about this domain"
    if medium == MSISDN and rules.number_prefixes and not address.startswith(rules.number_prefixes):
        return "the peer may not speak about this prefix"
    # A tombstone names no user: whoever may bind an address may unbind it.
    if rules.homeservers and homeserver is not None and homeserver not in rules.homeservers:
        return "the peer may not speak for users of this homeserver"
    return None
