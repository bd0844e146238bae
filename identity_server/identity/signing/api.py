"""Public keys (Identity Service API, "Key management")."""

from fastapi import APIRouter

from identity_server.identity.signing.keyring import OpenKeyring
from identity_server.matrix.errors import NotFound

router = APIRouter(prefix="/_matrix/identity/v2/pubkey", tags=["keys"])


@router.get("/isvalid")
async def is_public_key_valid(public_key: str, keyring: OpenKeyring) -> dict[str, bool]:
    return {"valid": keyring.holds(public_key)}


# Behind every other /pubkey/… route, or it would take them for key IDs.
by_id = APIRouter(prefix="/_matrix/identity/v2/pubkey", tags=["keys"])


@by_id.get("/{key_id}")
async def get_public_key(key_id: str, keyring: OpenKeyring) -> dict[str, str]:
    if (key := keyring.find(key_id)) is None:
        raise NotFound("The public key was not found")
    return {"public_key": key.verify_key.base64}
