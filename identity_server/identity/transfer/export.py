"""Everything that is bound, a page at a time."""

from collections.abc import AsyncIterator

from identity_server.identity.associations.statement import PlainBinding
from identity_server.identity.associations.store import page_of_bound
from identity_server.matrix.threepid import Threepid
from identity_server.runtime.database import Database

_PAGE = 5_000


async def export_bindings(database: Database) -> AsyncIterator[list[PlainBinding]]:
    after = Threepid("", "")
    while True:
        async with database.reading() as session:
            page = await page_of_bound(session, after, _PAGE)
        yield page
        if len(page) < _PAGE:
            return
        after = Threepid(*page[-1][:2])
