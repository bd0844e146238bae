"""Who is behind these addresses?"""

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.lookup import store
from identity_server.matrix.errors import MatrixError
from identity_server.matrix.threepid import Threepid, canonical
from identity_server.runtime.database import Database

# The result is the answer's JSON, made by the engine. CROSS JOIN pins SQLite's order: one probe per hash.
_SQLITE = (
    "SELECT json_group_object(hash, user_id) FROM json_each($1)"
    " CROSS JOIN lookup_{slot} ON hash = value WHERE user_id IS NOT NULL"
)
_POSTGRESQL = (
    "SELECT coalesce(json_object_agg(hash, user_id)::text, '{{}}')"
    " FROM lookup_{slot} WHERE hash = ANY($1::text[]) AND user_id IS NOT NULL"
)
# Up to here the query is cheaper than the hop to a thread.
_FEW = 50
_HASH_LENGTH = 43


async def find_by_hash(database: Database, slot: int, hashes: list[str]) -> bytes:
    """A JSON object from those of ``hashes`` that are known to the user IDs behind them."""
    # Each once, or it would stand twice in the answer. What has not the form of a hash matches nothing. In their order,
    # as they stand in the table: so 10,000 cost a third less.
    wanted = sorted({hash_ for hash_ in hashes if len(hash_) == _HASH_LENGTH and "\0" not in hash_})
    statement = (_SQLITE if database.is_sqlite else _POSTGRESQL).format(slot=slot)
    parameter = orjson.dumps(wanted).decode() if database.is_sqlite else wanted
    found = await database.lookups.value(statement, parameter, expensive=len(wanted) > _FEW)
    return str(found).encode()


async def find_by_address(session: AsyncSession, addresses: list[str]) -> dict[str, str]:
    """From those of ``addresses`` ("<address> <medium>") that are bound to their user IDs (algorithm ``none``)."""
    asked: dict[str, Threepid] = {}
    for text in addresses:
        address, _, medium = text.rpartition(" ")
        try:
            asked[text] = canonical(medium, address)
        except MatrixError:
            continue  # "queries which have been incorrectly formatted will lead to no matches"
    known = [threepid for threepid in asked.values() if "\0" not in threepid.medium + threepid.address]
    users = await store.users_of(session, known)
    return {text: users[threepid] for text, threepid in asked.items() if threepid in users}
