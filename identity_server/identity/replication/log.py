"""Our own log, as pages for peers."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.associations import store as associations
from identity_server.identity.associations.merkle import Peaks
from identity_server.identity.associations.statement import entry_nonce, log_entry
from identity_server.identity.associations.tree import peaks_at
from identity_server.identity.replication.page import Entry, Page, TreeHead, read_head, sign_head
from identity_server.identity.signing.keyring import Keyring


async def page_of_ours(session: AsyncSession, after: int, limit: int, *, keyring: Keyring, now_ms: int) -> Page:
    """What stands in our log behind ``after``, with the head of the tree up to the last of it."""
    rows = await associations.log_page(session, after=after, limit=limit)
    secret = (await associations.head(session)).secret
    entries = [Entry(entry_nonce(secret, row.position), associations.statement_of(row)) for row in rows]
    return Page(keyring.server_name, after, entries, await _head_after(session, after, entries, keyring, now_ms))


async def _head_after(
    session: AsyncSession, after: int, entries: Sequence[Entry], keyring: Keyring, now_ms: int
) -> TreeHead:
    start = await peaks_at(session, after, keyring.server_name)
    leaves = (
        log_entry(keyring.server_name, position, entry.statement, entry.nonce)
        for position, entry in enumerate(entries, start=after + 1)
    )
    peaks, _ = start.extended(leaves)
    return read_head(sign_head(keyring, peaks, now_ms))


async def head_of_ours(session: AsyncSession, *, keyring: Keyring, now_ms: int) -> TreeHead:
    peaks: Peaks = (await associations.head(session)).peaks
    return read_head(sign_head(keyring, peaks, now_ms))
