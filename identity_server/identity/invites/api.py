"""Invitations (Identity Service API, "Invitation storage", "Ephemeral invitation signing")."""

from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BeforeValidator, Field
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.identity.access.current import AnyAccount
from identity_server.identity.invites import store
from identity_server.identity.invites.accept import sign_acceptance
from identity_server.identity.invites.store_invite import SIGN_PATH, Invitation, store_invite
from identity_server.identity.signing.keyring import Keyring, OpenKeyring
from identity_server.identity.terms.signed import SignedAccount
from identity_server.matrix.errors import NotEntitled, NotFound, UnsupportedMedium
from identity_server.matrix.identifiers import Opaque, Text, UserID
from identity_server.matrix.threepid import EMAIL, MSISDN, canonical, mailbox
from identity_server.runtime.dependencies import (
    Now,
    OpenResources,
    OpenSettings,
    OpenTasks,
    Reading,
    Transaction,
)
from identity_server.runtime.requests import Body, JsonOrFormRoute
from identity_server.runtime.resources import Resources
from identity_server.runtime.tasks import Tasks

router = APIRouter(prefix="/_matrix/identity", tags=["invitations"], route_class=JsonOrFormRoute)

_SHOWN_CHARACTERS = 1000


def _shortened(value: Any) -> Any:
    # What is only shown is no reason to refuse: a room's name may be long, and some servers send null for none.
    return "" if value is None else value[:_SHOWN_CHARACTERS] if isinstance(value, str) else value


Shown = Annotated[Text, BeforeValidator(_shortened)]


# Handed back at onbind as it came: what a room's ID looks like is for the homeservers to know.
AnyRoomID = Annotated[Text, Field(min_length=1, max_length=255)]


class InviteRequest(Body):
    medium: Text
    address: Text
    room_id: AnyRoomID
    sender: UserID
    room_alias: Shown = ""
    room_avatar_url: Shown = ""
    room_name: Shown = ""
    room_type: Shown = ""
    sender_display_name: Shown = ""
    language: Shown = ""


class Acceptance(Body):
    mxid: UserID
    token: Opaque
    private_key: Text


class Revocation(Body):
    token: Opaque


@router.post("/v2/store-invite")
async def invite(
    body: InviteRequest,
    request: Request,
    account: SignedAccount,
    session: Transaction,
    keyring: OpenKeyring,
    tasks: OpenTasks,
    resources: OpenResources,
    now_ms: Now,
) -> dict[str, Any]:
    if body.sender != account.user_id:
        raise NotEntitled("The sender must be the holder of the access token")
    return await invite_for(body, request, session, keyring, tasks, resources, now_ms)


async def invite_for(
    body: InviteRequest,
    request: Request,
    session: AsyncSession,
    keyring: Keyring,
    tasks: Tasks,
    resources: Resources,
    now_ms: int,
) -> dict[str, Any]:
    """Invite as ``body.sender``, whoever vouches for that one."""
    settings, limits = resources.settings, resources.limits
    if body.medium not in ((EMAIL, MSISDN) if settings.invites.msisdn else (EMAIL,)):
        raise UnsupportedMedium("Invitations go to email addresses only")
    threepid = canonical(body.medium, body.address)
    await limits.hit("store_invite_per_account", body.sender)
    await limits.hit("store_invite_per_address", mailbox(threepid))
    invitation = Invitation(
        threepid,
        **body.model_dump(include={"room_id", "sender", "room_alias", "room_name", "room_type"}),
        room_avatar_url=body.room_avatar_url,
        sender_display_name=body.sender_display_name,
        # Nobody knows the invitee's language; the homeserver may say, the inviter's is the next best guess.
        language=body.language or request.headers.get("accept-language"),
    )
    return await store_invite(
        session,
        invitation,
        keyring=keyring,
        tasks=tasks,
        settings=settings,
        entropy=resources.entropy,
        now_ms=now_ms,
    )


@router.post("/v2/sign-ed25519")
async def sign(
    body: Acceptance, _account: SignedAccount, session: Reading, settings: OpenSettings, now_ms: Now
) -> dict[str, Any]:
    return await sign_acceptance(
        session,
        settings.server.name,
        user_id=body.mxid,
        token=body.token,
        private_key=body.private_key,
        must_match=False,
        now_ms=now_ms,
    )


@router.get("/v2/pubkey/ephemeral/isvalid")
async def is_ephemeral_key_valid(public_key: Text, session: Reading, now_ms: Now) -> dict[str, bool]:
    return {"valid": await store.is_key_valid(session, public_key, now_ms=now_ms)}


# The address in an invitation's link: clients POST to it as it stands, with the user ID added, and no token.
@router.post(SIGN_PATH.removeprefix("/_matrix/identity"))
async def sign_by_link(
    mxid: UserID, token: Opaque, private_key: Text, session: Reading, settings: OpenSettings, now_ms: Now
) -> dict[str, Any]:
    return await sign_acceptance(
        session,
        settings.server.name,
        user_id=mxid,
        token=token,
        private_key=private_key,
        must_match=True,
        now_ms=now_ms,
    )


@router.post("/io.identity_server/revoke-invite")
async def revoke(body: Revocation, account: AnyAccount, session: Transaction, now_ms: Now) -> dict[str, Any]:
    """Beyond the specification: the inviter takes an invitation back before it is claimed."""
    if not await store.revoke_invite(session, body.token, account.user_id, now_ms=now_ms):
        raise NotFound("You have no such invitation pending")
    return {}
