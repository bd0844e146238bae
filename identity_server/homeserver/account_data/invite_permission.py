"""Who may invite a user (Client-Server API, "Invite permission")."""

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.account_data import store
from identity_server.matrix.errors import MatrixError

INVITE_PERMISSION = "m.invite_permission_config"


class InviteBlocked(MatrixError):
    status = 403
    errcode = "M_INVITE_BLOCKED"


async def blocks_invites(session: AsyncSession, user_id: str) -> bool:
    content = await store.get(session, user_id, store.GLOBAL, INVITE_PERMISSION)
    return content is not None and content.get("default_action") == "block"


async def check_invitable(session: AsyncSession, user_id: str) -> None:
    """For a user of ours. Raises ``InviteBlocked``."""
    if await blocks_invites(session, user_id):
        raise InviteBlocked("The user does not want to be invited")
