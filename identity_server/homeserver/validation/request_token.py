"""Having the identity server send somebody a token (Client-Server API, "requestToken" of each operation)."""

from typing import Annotated, Any
from urllib.parse import urlencode

from pydantic import BeforeValidator, Field

from identity_server.homeserver.validation.own_account import OwnAccount
from identity_server.matrix.errors import InvalidParam, MatrixError
from identity_server.matrix.identifiers import Opaque, Text
from identity_server.matrix.identity_client import IdentityClient
from identity_server.matrix.threepid import EMAIL, MSISDN, Threepid, canonical_email, canonical_msisdn
from identity_server.runtime.requests import Body
from identity_server.runtime.tokens import Entropy

SUBMIT_PATH = "/_matrix/client/unstable/io.identity_server/validate"

_SID_LENGTH = 32


def _number(value: Any) -> Any:
    # Some clients send it as a string.
    return int(value) if isinstance(value, str) and value.isascii() and value.isdecimal() else value


class TokenRequest(Body):
    """What is common to both media. ``id_access_token`` is not needed: we ask in our own name."""

    client_secret: Opaque
    send_attempt: Annotated[int, BeforeValidator(_number), Field(ge=0, le=2**53)]
    next_link: Annotated[Text, Field(max_length=2000)] | None = None
    id_server: Annotated[Text, Field(max_length=300)] | None = None


class EmailTokenRequest(TokenRequest):
    email: Annotated[Text, Field(max_length=500)]

    @property
    def threepid(self) -> Threepid:
        """Raises ``InvalidParam``."""
        try:
            return Threepid(EMAIL, canonical_email(self.email))
        except MatrixError as error:
            raise InvalidParam(str(error)) from error

    async def send(self, client: IdentityClient) -> str:
        return await client.request_email_token(self.email, self.client_secret, self.send_attempt, self.next_link)


class MsisdnTokenRequest(TokenRequest):
    country: Annotated[Text, Field(min_length=2, max_length=2)]
    phone_number: Annotated[Text, Field(max_length=100)]

    @property
    def threepid(self) -> Threepid:
        """Raises ``InvalidParam``."""
        try:
            return Threepid(MSISDN, canonical_msisdn(self.country.upper(), self.phone_number))
        except MatrixError as error:
            raise InvalidParam(str(error)) from error

    async def send(self, client: IdentityClient) -> str:
        return await client.request_msisdn_token(
            self.country.upper(), self.phone_number, self.client_secret, self.send_attempt, self.next_link
        )


async def request_token(
    own: OwnAccount, wanted: EmailTokenRequest | MsisdnTokenRequest, *, base_url: str
) -> dict[str, Any]:
    """``sid``, and for a phone the ``submit_url`` that takes the token which the user reads; a mail holds a link.

    ``base_url``: this homeserver's own. Raises ``ServerNotTrusted``, ``BadGateway``, ``PassedOn``.
    """
    sid = await own.ask(own.trusted.url(wanted.id_server), wanted.send)
    answer = {"sid": sid}
    if wanted.threepid.medium == MSISDN:
        query = f"?{urlencode({'id_server': wanted.id_server})}" if wanted.id_server else ""
        answer["submit_url"] = f"{base_url}{SUBMIT_PATH}/{MSISDN}/submitToken{query}"
    return answer


def pretended(entropy: Entropy) -> dict[str, Any]:
    """An answer that looks as if a message was sent."""
    return {"sid": entropy.token(_SID_LENGTH)}
