"""Who is behind these addresses?"""

import orjson
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.associations import store as associations
from identity_server.matrix.errors import MatrixError
from identity_server.matrix.threepid import Threepid, canonical
from identity_server.runtime.database import Database

# The result is the answer's JSON, made by the engine. SQLite first puts what is asked in order, each once, and probes
# its index from left to right: 10,000 cost a third less than as they come. Python would hold others up meanwhile.
_SQLITE = (
    "SELECT json_group_object(hash, user_id) FROM lookup_{slot}"
    " WHERE hash IN (SELECT value FROM json_each($1)) AND user_id IS NOT NULL"
)
_POSTGRESQL = (
    "SELECT coalesce(json_object_agg(hash, user_id)::text, '{{}}')"
    " FROM lookup_{slot} WHERE hash = ANY($1::text[]) AND user_id IS NOT NULL"
)
# Up to here the query is cheaper than the hop to a thread.
_FEW = 100


async def find_by_hash(database: Database, slot: int, hashes: bytes, count: int) -> bytes:
    """A JSON object from those of ``hashes`` (a JSON array of ``count`` strings) that are known to the user IDs behind
    them."""
    is_expensive = count > _FEW
    if database.is_sqlite:
        asked = hashes.decode()
        found = await database.lookups.value(_SQLITE.format(slot=slot), asked, expensive=is_expensive)
    else:
        # Of characters that PostgreSQL stores.
        known = [hash_ for hash_ in orjson.loads(hashes) if "\0" not in hash_]
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
    users = await associations.users(session, known)
    return {text: users[threepid] for text, threepid in asked.items() if threepid in users}
