"""Saying what other servers' keys are (Server-Server API, "Querying Keys Through Another Server")."""

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from identity_server.homeserver.federation import key_store
from identity_server.homeserver.federation.keyring import KeyRing
from identity_server.homeserver.federation.models import PublishedAnswer
from identity_server.homeserver.keys import ServerKeys
from identity_server.matrix.identifiers import split_server_name
from identity_server.matrix.server_keys import publish
from identity_server.matrix.signing import sign_json
from identity_server.runtime.database import Database


class Criteria(NamedTuple):
    key_ids: frozenset[str]
    """None: all that there are."""
    minimum_valid_until_ts: int


async def attested(
    database: Database, key_ring: KeyRing, own: ServerKeys, wanted: Mapping[str, Criteria], *, now_ms: int
) -> dict[str, Any]:
    """What is known of the keys of the servers that are asked for, each answer signed by us as well.

    No transaction of the request's own: the servers are asked meanwhile. Servers that cannot be asked are answered
    for with what they said last; of those that never said anything there is nothing to say.
    """
    others = {name: criteria for name, criteria in wanted.items() if name != own.server_name and _is_name(name)}
    async with database.reading() as session:
        known = await key_store.answers_of(session, others.keys())
    stale = [name for name, criteria in others.items() if not _suffices(known.get(name), criteria, now_ms)]
    await asyncio.gather(*(key_ring.ask(name) for name in stale))
    if stale:
        async with database.reading() as session:
            known |= await key_store.answers_of(session, stale)
    answers = [sign_json(orjson.loads(row.answer), own.server_name, own.keys[-1]) for row in known.values()]
    if own.server_name in wanted:
        answers.append(publish(own.server_name, own.keys, own.old_keys, now_ms=now_ms))
    return {"server_keys": answers}


def _suffices(row: PublishedAnswer | None, criteria: Criteria, now_ms: int) -> bool:
    """ "Intermediate notary servers should cache a response for half of its lifetime"."""
    if row is None or now_ms > (row.fetched_ts + row.valid_until_ts) // 2:
        return False
    answer = orjson.loads(row.answer)
    held = {*answer["verify_keys"], *answer.get("old_verify_keys", {})}
    return criteria.key_ids <= held and row.valid_until_ts >= criteria.minimum_valid_until_ts


def _is_name(name: str) -> bool:
    try:
        split_server_name(name)
    except ValueError:
        return False
    return True
