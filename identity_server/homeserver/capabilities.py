"""What this server offers beside the rest: capabilities, TURN servers, bridges (none)."""

import base64
import hashlib
import hmac
from typing import Any

from fastapi import APIRouter

from identity_server.homeserver.access.current import CurrentUser
from identity_server.homeserver.events.versions import VERSIONS
from identity_server.matrix.errors import NotFound
from identity_server.runtime.dependencies import Now, OpenSettings
from identity_server.settings import HomeserverSettings

router = APIRouter(tags=["capabilities"])


@router.get("/capabilities")
async def get_capabilities(_user: CurrentUser, settings: OpenSettings) -> dict[str, Any]:
    """Client-Server API, "Capabilities negotiation"."""
    return {
        "capabilities": {
            "m.change_password": {"enabled": True},
            "m.room_versions": {
                "default": settings.homeserver.default_room_version,
                "available": dict.fromkeys(VERSIONS, "stable"),
            },
            "m.profile_fields": {"enabled": True},
            "m.set_displayname": {"enabled": True},
            "m.set_avatar_url": {"enabled": True},
            "m.3pid_changes": {"enabled": True},
            "m.get_login_token": {"enabled": True},
            "m.forget_forced_upon_leave": {"enabled": False},
        }
    }


@router.get("/voip/turnServer")
async def get_turn_server(user: CurrentUser, settings: OpenSettings, now_ms: Now) -> dict[str, Any]:
    return turn_credentials(settings.homeserver, user.user_id, now_ms=now_ms)


def turn_credentials(settings: HomeserverSettings, user_id: str, *, now_ms: int) -> dict[str, Any]:
    """What ``user_id`` shows to the TURN servers ("Voice over IP"); empty if there are none.

    With a shared secret they are made for the user, as the "TURN REST API" that servers agree on has it.
    """
    if not settings.turn_uris:
        return {}
    username, password = settings.turn_username, settings.turn_password
    if settings.turn_secret:
        username = f"{(now_ms + settings.turn_lifetime) // 1000}:{user_id}"
        digest = hmac.new(settings.turn_secret.encode(), username.encode(), hashlib.sha1).digest()
        password = base64.b64encode(digest).decode()
    return {
        "username": username,
        "password": password,
        "uris": list(settings.turn_uris),
        "ttl": settings.turn_lifetime // 1000,
    }


# "Third-party Networks": there are none here.


@router.get("/thirdparty/protocols")
async def get_protocols(_user: CurrentUser) -> dict[str, Any]:
    return {}


@router.get("/thirdparty/protocol/{protocol}")
@router.get("/thirdparty/location/{protocol}")
@router.get("/thirdparty/user/{protocol}")
async def get_of_protocol(protocol: str, _user: CurrentUser) -> dict[str, Any]:
    raise NotFound("The protocol is unknown")


@router.get("/thirdparty/location")
@router.get("/thirdparty/user")
async def get_of_all_protocols(_user: CurrentUser) -> list[dict[str, Any]]:
    return []
