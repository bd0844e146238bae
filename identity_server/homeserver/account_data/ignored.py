"""Whom a user ignores (Client-Server API, "Ignoring Users")."""

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.account_data import store

IGNORED_USER_LIST = "m.ignored_user_list"


async def ignored_users(session: AsyncSession, user_id: str) -> frozenset[str]:
    """Their user IDs; oneself is never among them."""
    content = await store.get(session, user_id, store.GLOBAL, IGNORED_USER_LIST)
    listed = (content or {}).get("ignored_users")
    return frozenset(listed) - {user_id} if isinstance(listed, dict) else frozenset()
