"""Inviting an address into a room (Identity Service API, "Invitation storage")."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.associations import store as associations
from identity_server.identity.delivery.outlet import Outlet
from identity_server.identity.invites import store
from identity_server.identity.invites.models import Invite
from identity_server.identity.invites.redaction import redacted
from identity_server.identity.signing.keyring import Keyring
from identity_server.matrix.errors import ThreepidInUse
from identity_server.matrix.signing import SigningKey
from identity_server.matrix.threepid import EMAIL, Threepid
from identity_server.runtime.tasks import Payload, Tasks
from identity_server.runtime.tokens import Entropy
from identity_server.settings import Settings

INVITATION = "invitation"

_TOKEN_LENGTH = 43
_VALIDITY_PATH = "/_matrix/identity/v2/pubkey"
SIGN_PATH = "/_matrix/identity/io.identity_server/sign-ed25519"


@dataclass(frozen=True)
class Invitation:
    """Who invites whom where; all but the first three is for the message only, and may be empty."""

    threepid: Threepid
    room_id: str
    sender: str
    room_alias: str = ""
    room_name: str = ""
    room_type: str = ""
    room_avatar_url: str = ""
    sender_display_name: str = ""
    language: str | None = None


async def store_invite(
    session: AsyncSession,
    invitation: Invitation,
    *,
    keyring: Keyring,
    tasks: Tasks,
    settings: Settings,
    entropy: Entropy,
    now_ms: int,
) -> dict[str, Any]:
    """Store it, have the invitee told, and answer what the room is to know.

    Raises ``ThreepidInUse`` if the address is bound already.
    """
    bound = await associations.current(session, invitation.threepid)
    if bound and bound.user_id:
        raise ThreepidInUse("Binding already known", mxid=bound.user_id)
    ephemeral = SigningKey.from_seed("ed25519:0", entropy.bytes(32))
    invite = Invite(
        token=entropy.token(_TOKEN_LENGTH),
        medium=invitation.threepid.medium,
        address=invitation.threepid.address,
        room_id=invitation.room_id,
        sender=invitation.sender,
        public_key=ephemeral.verify_key.base64,
        key_id=keyring.current.key_id,
        created_ts=now_ms,
        expires_ts=now_ms + settings.invites.lifetime,
        claimed_ts=None,
        claimed_by=None,
        revoked_ts=None,
    )
    store.add_invite(session, invite)
    await tasks.enqueue(session, INVITATION, _message(invitation, invite, ephemeral, settings), now_ms=now_ms)
    base_url = settings.public_base_url
    return {
        "token": invite.token,
        "public_keys": [
            {
                "public_key": keyring.current.verify_key.base64,
                "key_validity_url": f"{base_url}{_VALIDITY_PATH}/isvalid",
            },
            {"public_key": invite.public_key, "key_validity_url": f"{base_url}{_VALIDITY_PATH}/ephemeral/isvalid"},
        ],
        "display_name": redacted(invitation.threepid),
    }


def _message(invitation: Invitation, invite: Invite, ephemeral: SigningKey, settings: Settings) -> dict[str, Any]:
    return {
        "medium": invite.medium,
        "address": invite.address,
        "language": invitation.language,
        "context": {
            "server_name": settings.server.name,
            "inviter_name": invitation.sender_display_name or invitation.sender,
            "room_name": invitation.room_name or invitation.room_alias,
            "room_type": invitation.room_type or None,
            "link": invitation_link(invitation, invite.token, ephemeral, settings),
        },
    }


def invitation_link(invitation: Invitation, token: str, ephemeral: SigningKey, settings: Settings) -> str:
    """Into the web client, with what it needs to accept: above all ``signurl``, where it has the acceptance signed by
    the key that only this message bears."""
    signing = urlencode({"token": token, "private_key": ephemeral.seed_base64})
    query = {
        invitation.threepid.medium: invitation.threepid.address,
        "signurl": f"{settings.public_base_url}{SIGN_PATH}?{signing}",
        "room_name": invitation.room_name,
        "room_avatar_url": invitation.room_avatar_url,
        "room_type": invitation.room_type,
        "inviter_name": invitation.sender_display_name,
    }
    room = quote(invitation.room_alias or invitation.room_id, safe="")
    given = urlencode({name: value for name, value in query.items() if value})
    return f"{settings.email.web_client_url.rstrip('/')}/#/room/{room}?{given}"


async def send_invitation(payload: Payload, *, outlet: Outlet) -> None:
    """Run the task that ``store_invite`` left; what cannot be sent now is tried again later."""
    send = outlet.send_email if payload["medium"] == EMAIL else outlet.send_sms
    await send(payload["address"], "invitation", payload["language"], payload["context"])
