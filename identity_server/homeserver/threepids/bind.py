"""Binding an address to a user of ours at an identity server of the user's choice (POST /account/3pid/bind)."""

from identity_server.homeserver.validation.own_account import passed_on
from identity_server.homeserver.validation.trusted import TrustedServers, base_url_of
from identity_server.matrix.errors import BadGateway
from identity_server.matrix.http import Http, Unreachable
from identity_server.matrix.identity_client import IdentityClient
from identity_server.matrix.json_api import GuardedApi, Refused, text_of
from identity_server.matrix.threepid import Threepid


async def bind(
    http: Http,
    trusted: TrustedServers,
    *,
    id_server: str,
    id_access_token: str,
    session: tuple[str, str],
    user_id: str,
) -> Threepid:
    """What was bound. Raises ``PassedOn`` and ``BadGateway``; not for inside a transaction."""
    client = identity_client(http, trusted, id_server, id_access_token)
    try:
        association = await client.bind(*session, user_id)
        return Threepid(text_of(association, "medium"), text_of(association, "address"))
    except Refused as refusal:
        raise passed_on(refusal) from refusal
    except Unreachable as error:
        raise BadGateway("The identity server cannot be reached") from error


def identity_client(http: Http, trusted: TrustedServers, id_server: str, id_access_token: str) -> IdentityClient:
    """For the account that ``id_access_token`` stands for, at the server that a client calls ``id_server``."""
    base_url = trusted.known(id_server) or base_url_of(id_server)
    return IdentityClient(GuardedApi(http, base_url, id_access_token))
