"""What nobody needs any more goes, every hour: addresses are kept no longer than they serve."""

from identity_server.identity.access.store import purge_expired_tokens
from identity_server.identity.invites.store import purge_invites
from identity_server.identity.validation.store import purge_sessions
from identity_server.runtime.database import Database
from identity_server.settings import Settings


async def purge(database: Database, settings: Settings, now_ms: int) -> None:
    async with database.transaction() as session:
        await purge_expired_tokens(session, now_ms=now_ms)
        await purge_sessions(session, lifetime_ms=settings.validation.session_lifetime, now_ms=now_ms)
        await purge_invites(session, now_ms=now_ms)
