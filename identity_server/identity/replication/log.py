"""Our own log, as pages for peers."""

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.associations import store as associations
from identity_server.identity.associations.merkle import Peaks
from identity_server.identity.associations.statement import entry_nonce
from identity_server.identity.associations.tree import peaks_at
from identity_server.identity.replication.page import Entry, Page, TreeHead, read_head, sign_head
from identity_server.identity.signing.keyring import Keyring
from identity_server.matrix.errors import InvalidParam


async def page_of_ours(session: AsyncSession, after: int, limit: int, *, keyring: Keyring, now_ms: int) -> Page:
    """What stands in our log behind ``after``, with the head of the tree up to the last of it.

    Raises ``InvalidParam`` if the log ends before ``after``.
    """
    head = await associations.head(session)
    if after > head.position:
        raise InvalidParam("The log ends before this position")
    rows = await associations.log_page(session, after=after, limit=limit)
    entries = [Entry(entry_nonce(head.secret, row.position), row.statement) for row in rows]
    peaks = await peaks_at(session, after + len(rows), keyring.server_name)
    return Page(keyring.server_name, after, entries, read_head(sign_head(keyring, peaks, now_ms)))


async def head_of_ours(session: AsyncSession, *, keyring: Keyring, now_ms: int) -> TreeHead:
    peaks: Peaks = (await associations.head(session)).peaks
    return read_head(sign_head(keyring, peaks, now_ms))
