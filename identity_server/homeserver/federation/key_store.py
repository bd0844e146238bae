from collections.abc import Collection, Sequence

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.federation.models import PublishedAnswer, RemoteKey
from identity_server.matrix.server_keys import PublishedKeys
from identity_server.runtime.database import in_chunks, insert


async def keys_of(session: AsyncSession, server_name: str) -> Sequence[RemoteKey]:
    """Every key that ``server_name`` was ever seen to have."""
    return list(await session.scalars(select(RemoteKey).where(RemoteKey.server_name == server_name)))


async def keep_answer(
    session: AsyncSession, server_name: str, answer: str, published: PublishedKeys, *, now_ms: int
) -> None:
    """Remember what a server says of its keys. Those that it names no more stay as they were last seen."""
    rows = [
        {
            "server_name": server_name,
            "key_id": key_id,
            "public_key": key.base64,
            "valid_until_ts": published.valid_until_ts,
            "is_current": True,
        }
        for key_id, key in published.verify_keys.items()
    ] + [
        {
            "server_name": server_name,
            "key_id": key_id,
            "public_key": old.verify_key.base64,
            "valid_until_ts": old.expired_ts,
            "is_current": False,
        }
        for key_id, old in published.old_verify_keys.items()
        if key_id not in published.verify_keys
    ]
    await session.execute(update(RemoteKey).where(RemoteKey.server_name == server_name).values(is_current=False))
    for row in rows:
        statement = insert(session, RemoteKey).values(row)
        replaced = {name: statement.excluded[name] for name in ("public_key", "valid_until_ts", "is_current")}
        await session.execute(statement.on_conflict_do_update(index_elements=["server_name", "key_id"], set_=replaced))
    await session.execute(delete(PublishedAnswer).where(PublishedAnswer.server_name == server_name))
    session.add(
        PublishedAnswer(
            server_name=server_name, answer=answer, fetched_ts=now_ms, valid_until_ts=published.valid_until_ts
        )
    )


async def answers_of(session: AsyncSession, server_names: Collection[str]) -> dict[str, PublishedAnswer]:
    """What each of ``server_names`` last said, where it is known."""
    found: dict[str, PublishedAnswer] = {}
    for chunk in in_chunks(list(server_names)):
        rows = await session.scalars(select(PublishedAnswer).where(PublishedAnswer.server_name.in_(chunk)))
        found.update({row.server_name: row for row in rows})
    return found
