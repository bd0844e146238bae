"""What somebody has proven to an identity server (Client-Server API, "Email-based (identity / homeserver)")."""

from typing import Annotated, NamedTuple

from pydantic import Field

from identity_server.homeserver.validation.own_account import OwnAccount
from identity_server.matrix.errors import PassedOn, ThreepidAuthFailed
from identity_server.matrix.identifiers import Opaque, Text
from identity_server.matrix.threepid import Threepid, canonical
from identity_server.runtime.requests import Body


class ProvenThreepid(NamedTuple):
    threepid: Threepid
    validated_ts: int


class Credentials(Body):
    """A session at an identity server, by who began it: the first trusted one's if none is named."""

    sid: Opaque
    client_secret: Opaque
    id_server: Annotated[Text, Field(max_length=300)] | None = None


async def proven(own: OwnAccount, credentials: Credentials) -> ProvenThreepid:
    """What the session has proven. Raises ``ThreepidAuthFailed`` if nothing, ``ServerNotTrusted``, ``BadGateway``."""
    base_url = own.trusted.url(credentials.id_server)
    try:
        threepid, validated_ts = await own.ask(
            base_url, lambda client: client.validation(credentials.sid, credentials.client_secret)
        )
    except PassedOn as error:
        if error.status >= 500 or error.status == 429:
            raise
        raise ThreepidAuthFailed("The identity server does not confirm the address") from error
    return ProvenThreepid(canonical(*threepid), validated_ts)
