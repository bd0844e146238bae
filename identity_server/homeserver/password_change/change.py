"""Choosing a new password: as who knows the old one, or as who has the account's address ("Password management")."""

from identity_server.homeserver.access.removal import DeviceWatchers, remove_all_devices
from identity_server.homeserver.accounts import store
from identity_server.homeserver.accounts.interactive import Attempt, Proof, Wanted, finish, prove
from identity_server.homeserver.accounts.passwords import Passwords, hash_new
from identity_server.homeserver.accounts.threepid_stages import STAGE_OF, threepid_stage
from identity_server.homeserver.validation.own_account import OwnAccount
from identity_server.matrix.errors import ThreepidNotFound
from identity_server.matrix.threepid import EMAIL, MSISDN
from identity_server.runtime.database import Database
from identity_server.runtime.tokens import Entropy


async def prove_address(
    database: Database, own: OwnAccount, attempt: Attempt | None, *, entropy: Entropy, now_ms: int
) -> tuple[str, Proof]:
    """The user ID of the account whose address is proven. Raises ``AuthenticationNeeded``, ``ThreepidNotFound``."""
    stages = {STAGE_OF[medium]: threepid_stage(own, medium) for medium in (EMAIL, MSISDN)}
    wanted = Wanted("POST /account/password", [[stage] for stage in stages], stages)
    proof = await prove(database, attempt, wanted, entropy=entropy, now_ms=now_ms)
    async with database.reading() as session:
        for proven in proof.threepids:
            if user_id := await store.owner_of(session, proven.threepid):
                return user_id, proof
    raise ThreepidNotFound("The address belongs to no account")


async def change_password(
    database: Database,
    passwords: Passwords,
    proof: Proof,
    *,
    user_id: str,
    new_password: str | None,
    log_out_but: tuple[str | None] | None,
    watchers: DeviceWatchers,
) -> None:
    """Set the password, and unless ``log_out_but`` is None, log out all devices but that with the ID in it.

    Raises ``MissingParam``, ``WeakPassword``.
    """
    hashed = await hash_new(passwords, new_password)
    async with database.transaction() as session:
        await finish(session, proof)
        await store.set_password_hash(session, user_id, hashed)
        if log_out_but is not None:
            await remove_all_devices(session, user_id, watchers=watchers, but=log_out_but[0])
