"""When a peer contradicts what it signed before: it is not believed until a person has looked."""

from functools import partial

import structlog
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.replication import store
from identity_server.runtime.database import after_commit
from identity_server.runtime.metrics import PEER_ALARMS

log = structlog.get_logger(__name__)


async def raise_alarm(session: AsyncSession, name: str, why: str) -> None:
    """Pause the peer, and say why: in ``peers status``, in the log, in the metrics."""
    if await store.change_peer(session, name, alarm=why, paused=True):
        after_commit(session, partial(_tell, name, why))


def _tell(name: str, why: str) -> None:
    PEER_ALARMS.labels(name).inc()
    log.error("peer contradicts itself", peer=name, why=why)
