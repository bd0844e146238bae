"""Pushers (Client-Server API, "Push Notifications")."""

from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter
from pydantic import Field

from identity_server.homeserver.access.current import CurrentUser
from identity_server.homeserver.push import pushers
from identity_server.homeserver.push.pushers import NewPusher
from identity_server.homeserver.streams import current_position
from identity_server.matrix.errors import InvalidParam, MissingParam
from identity_server.matrix.identifiers import Text
from identity_server.runtime.dependencies import Now, Reading, Transaction
from identity_server.runtime.requests import Body, JsonRoute

router = APIRouter(prefix="/pushers", tags=["push"], route_class=JsonRoute)

_MAX_PUSHKEY_BYTES = 512
_NEEDED = ("app_display_name", "device_display_name", "lang", "data")
_PATH = "/_matrix/push/v1/notify"


class PusherSetting(Body):
    pushkey: Text
    kind: Text | None = Field()
    app_id: Annotated[Text, Field(max_length=64)]
    app_display_name: Text | None = None
    device_display_name: Text | None = None
    profile_tag: Text | None = None
    lang: Text | None = None
    data: dict[str, Any] | None = None
    append: bool = False


@router.get("")
async def get_pushers(user: CurrentUser, session: Reading) -> dict[str, Any]:
    return {"pushers": [pusher.as_json() for pusher in await pushers.pushers_of(session, user.user_id)]}


@router.post("/set")
async def set_pusher(body: PusherSetting, user: CurrentUser, session: Transaction, now_ms: Now) -> dict[str, Any]:
    if len(body.pushkey.encode()) > _MAX_PUSHKEY_BYTES:
        raise InvalidParam("pushkey is too long")
    if body.kind is None:
        await pushers.remove_pusher(session, user.user_id, body.app_id, body.pushkey)
        return {}
    _check(body)
    if not body.append:
        await pushers.remove_others(session, user.user_id, body.app_id, body.pushkey)
    position = await current_position(session)
    new = NewPusher(**body.model_dump(exclude={"append"}), device_id=user.device_id)
    await pushers.put_pusher(session, user.user_id, new, position=position, now_ms=now_ms)
    return {}


def _check(body: PusherSetting) -> None:
    missing = [name for name in _NEEDED if getattr(body, name) is None]
    if missing:
        raise MissingParam(f"Missing parameters: {', '.join(missing)}")
    if body.kind != "http":
        raise InvalidParam("Pushers are of the kind http")
    url = (body.data or {}).get("url")
    if url is None:
        raise MissingParam("Missing parameters: data.url")
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in ("https", "http") or not parts.hostname or parts.path != _PATH:
        raise InvalidParam(f"data.url is an HTTPS URL with the path {_PATH}")
