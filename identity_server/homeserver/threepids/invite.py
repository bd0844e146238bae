"""Inviting an address into a room (Client-Server API, "Third-party invites"), for whoever sends events to rooms.

Who invites is checked before, and the event is sent after: ``find_or_store`` speaks with an identity server, and so
belongs between the two, outside of a transaction.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncSession

from identity_server.homeserver.threepids.bind import identity_client
from identity_server.homeserver.timeline import store as timeline
from identity_server.homeserver.validation.own_account import passed_on
from identity_server.homeserver.validation.trusted import TrustedServers
from identity_server.matrix.errors import BadGateway
from identity_server.matrix.http import Http, Unreachable
from identity_server.matrix.identifiers import Text
from identity_server.matrix.identity_client import NoCommonAlgorithm
from identity_server.matrix.json_api import Refused, text_of
from identity_server.matrix.threepid import Threepid, canonical
from identity_server.runtime.requests import Body

THIRD_PARTY_INVITE = "m.room.third_party_invite"

# State event, the field of its content, and what POST /store-invite calls it.
_ABOUT = (
    ("m.room.canonical_alias", "alias", "room_alias"),
    ("m.room.name", "name", "room_name"),
    ("m.room.avatar", "url", "room_avatar_url"),
    ("m.room.join_rules", "join_rule", "room_join_rules"),
    ("m.room.create", "type", "room_type"),
)


class ThreepidInvitation(Body):
    """``invite_3pid`` of POST /createRoom, and the body of POST /rooms/{roomId}/invite in its second form."""

    id_server: Annotated[Text, Field(min_length=1, max_length=300)]
    id_access_token: Text
    medium: Text
    address: Text

    @property
    def threepid(self) -> Threepid:
        """Raises ``InvalidEmail`` and ``InvalidAddress``."""
        return canonical(self.medium, self.address)


@dataclass(frozen=True)
class Bound:
    """The address belongs to ``user_id``, who is to be invited as anybody is."""

    user_id: str


@dataclass(frozen=True)
class Stored:
    """The identity server keeps the invitation: send ``m.room.third_party_invite`` with this key and content."""

    state_key: str
    content: dict[str, Any]


async def about(session: AsyncSession, room_id: str, sender: str) -> dict[str, str]:
    """What the invitation may say of the room and of the inviter, as POST /store-invite names it."""
    state = await timeline.current_state(session, room_id, {type_ for type_, *_ in _ABOUT})
    told = {name: state[type_, ""].content.get(field) for type_, field, name in _ABOUT if (type_, "") in state}
    member = await timeline.state_event(session, room_id, "m.room.member", sender)
    if member is not None:
        told["sender_display_name"] = member.content.get("displayname")
        told["sender_avatar_url"] = member.content.get("avatar_url")
    return {name: value for name, value in told.items() if isinstance(value, str)}


async def find_or_store(
    http: Http,
    trusted: TrustedServers,
    invitation: ThreepidInvitation,
    *,
    room_id: str,
    sender: str,
    about: Mapping[str, str],
) -> Bound | Stored:
    """Whose the address is, or what has to be sent to the room.

    Raises ``InvalidEmail``, ``InvalidAddress``, ``PassedOn`` and ``BadGateway``.
    """
    threepid = invitation.threepid
    client = identity_client(http, trusted, invitation.id_server, invitation.id_access_token)
    try:
        try:
            found = await client.lookup([threepid])
        except NoCommonAlgorithm:
            found = {}  # a server that hashes nothing is not told addresses in the clear
        if threepid in found:
            return Bound(found[threepid])
        answer = await client.store_invite(threepid, room_id, sender, about)
        return Stored(text_of(answer, "token"), _content(answer))
    except Refused as refusal:
        raise passed_on(refusal) from refusal
    except Unreachable as error:
        raise BadGateway("The identity server cannot be reached") from error


def _content(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Of ``m.room.third_party_invite``, from the answer of POST /store-invite."""
    listed = answer.get("public_keys")
    keys = [
        {name: key[name] for name in ("public_key", "key_validity_url") if isinstance(key.get(name), str)}
        for key in (listed if isinstance(listed, list) else [])
        if isinstance(key, dict) and isinstance(key.get("public_key"), str)
    ]
    if not keys:  # of servers that give one only
        keys = [{"public_key": text_of(answer, "public_key")}]
    # The first for servers that know one only; the room's members check against all.
    first = keys[0]
    return {
        "display_name": text_of(answer, "display_name"),
        "public_key": first["public_key"],
        "key_validity_url": first.get("key_validity_url", ""),
        "public_keys": keys,
    }
