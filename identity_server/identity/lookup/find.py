"""Who is behind these addresses?"""

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.lookup import store
from identity_server.matrix.errors import MatrixError
from identity_server.matrix.threepid import Threepid, canonical
from identity_server.runtime.database import Database

# The result is the answer's JSON, made by the engine. CROSS JOIN pins SQLite's order: one probe per hash. It puts them
# in order first, as they stand in the table, so that 10,000 cost a third less; Python would hold up everybody else
# meanwhile.
_SQLITE = (
    "SELECT json_group_object(hash, user_id) FROM (SELECT value FROM json_each($1) ORDER BY value)"
    " CROSS JOIN lookup_{slot} ON hash = value WHERE user_id IS NOT NULL"
)
_POSTGRESQL = (
    "SELECT coalesce(json_object_agg(hash, user_id)::text, '{{}}')"
    " FROM lookup_{slot} WHERE hash = ANY($1::text[]) AND user_id IS NOT NULL"
)
# Up to here the query is cheaper than the hop to a thread.
_FEW = 50


async def find_by_hash(database: Database, slot: int, hashes: list[str]) -> bytes:
    """A JSON object from those of ``hashes`` that are known to the user IDs behind them."""
    wanted = list(dict.fromkeys(hashes))  # each once, or it would stand twice in the answer
    is_expensive = len(wanted) > _FEW
    if database.is_sqlite:
        asked = orjson.dumps(wanted).decode()
        found = await database.lookups.value(_SQLITE.format(slot=slot), asked, expensive=is_expensive)
    else:
        known = [hash_ for hash_ in wanted if "\0" not in hash_]  # of characters that PostgreSQL stores
        found = await database.lookups.value(_POSTGRESQL.format(slot=slot), known, expensive=is_expensive)
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
