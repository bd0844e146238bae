"""Telling push gateways, as durable tasks (Push Gateway API)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from identity_server.homeserver.events.event import Event
from identity_server.homeserver.push import pushers
from identity_server.homeserver.push.evaluate import tweaks_of
from identity_server.homeserver.push.pushers import KeptPusher
from identity_server.matrix.http import Http, Unreachable
from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database
from identity_server.runtime.tasks import GiveUp, Payload

PUSH = "push"

# What nobody could be told of for so long is no news any more.
_STALE_MS = 86_400_000
_MAX_ANSWER_BYTES = 65_536
_IDS_ONLY = "event_id_only"


@dataclass(frozen=True)
class Surroundings:
    """What a notification says of the room, beside the event."""

    sender_display_name: str | None
    room_name: str | None
    room_alias: str | None


def notification_of(
    event: Event, actions: Any, surroundings: Surroundings, pusher: KeptPusher, *, unread: int
) -> dict[str, Any]:
    """The body of POST /_matrix/push/v1/notify."""
    about, tweaks = pusher.about, tweaks_of(actions)
    device = {
        "app_id": about.app_id,
        "pushkey": about.pushkey,
        "pushkey_ts": pusher.set_ts // 1000,
        "data": {name: value for name, value in about.data.items() if name != "url"},
        "tweaks": tweaks,
    }
    notification: dict[str, Any] = {
        "event_id": event.event_id,
        "room_id": event.room_id,
        "counts": {"unread": unread} if unread else {},
        "devices": [device],
    }
    is_urgent = event.type == "m.room.encrypted" or tweaks.get("highlight") is True or "sound" in tweaks
    if about.data.get("format") != _IDS_ONLY:
        more = {
            "type": event.type,
            "sender": event.sender,
            "sender_display_name": surroundings.sender_display_name,
            "room_name": surroundings.room_name,
            "room_alias": surroundings.room_alias,
            "content": dict(event.content),
        }
        notification |= {name: value for name, value in more.items() if value is not None}
        if event.type == "m.room.member":
            notification["user_is_target"] = event.state_key == pusher.user_id
    return {"notification": {**notification, "prio": "high" if is_urgent else "low"}}


@dataclass(frozen=True)
class Gateways:
    database: Database
    http: Http
    clock: Clock

    async def run(self, payload: Payload) -> None:
        """Send what ``payload`` holds; a pusher whose key is rejected goes. Raises to be tried again."""
        user_id, app_id, pushkey = payload["pusher"]
        async with self.database.reading() as session:
            pusher = await pushers.find_pusher(session, user_id, app_id, pushkey)
        if pusher is None or self.clock.now_ms() - payload["ts"] > _STALE_MS:
            raise GiveUp
        answer = await self.http.request(
            "POST", pusher.about.data["url"], json=payload["body"], max_bytes=_MAX_ANSWER_BYTES
        )
        if answer.status != 200:
            raise Unreachable(f"the push gateway answered {answer.status}")
        if pushkey in _rejected(answer.json()):
            async with self.database.transaction() as session:
                await pushers.remove_pusher(session, user_id, app_id, pushkey)


def _rejected(answer: Any) -> list[Any]:
    rejected = answer.get("rejected") if isinstance(answer, Mapping) else None
    return rejected if isinstance(rejected, list) else []
