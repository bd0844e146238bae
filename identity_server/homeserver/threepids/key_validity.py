"""Whether the key that signed a third-party invitation is still good ("Third-party invites": ``key_validity_url``)."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from identity_server.homeserver.events.signatures import is_signed_by_any
from identity_server.matrix.errors import Forbidden
from identity_server.matrix.http import Http, Unreachable


async def check_keys(http: Http, invitation: Mapping[str, Any], signed: Mapping[str, Any]) -> None:
    """Raises ``Forbidden`` unless a key of ``invitation`` signed ``signed`` and its identity server stands by it.

    ``invitation``: the content of ``m.room.third_party_invite``. Raises ``Unreachable`` if it could not be asked.
    Not for inside a transaction.
    """
    keys = [invitation, *_objects(invitation.get("public_keys"))]
    signing = [key for key in keys if is_signed_by_any(signed, iter([key.get("public_key")]))]
    if not signing:
        raise Forbidden("The invitation is not signed by a key that the room knows")
    for key in signing:
        url = key.get("key_validity_url")
        # "If absent, the key must be considered valid indefinitely."
        if not isinstance(url, str) or not url or await _is_valid(http, url, key["public_key"]):
            return
    raise Forbidden("The key that signed the invitation is not valid any more")


async def _is_valid(http: Http, url: str, public_key: str) -> bool:
    separator = "&" if "?" in url else "?"
    answer = await http.request("GET", f"{url}{separator}{urlencode({'public_key': public_key})}")
    if answer.status >= 500:
        raise Unreachable("the identity server fails")
    try:
        body = answer.json()
    except ValueError:
        return False
    return answer.status == 200 and isinstance(body, dict) and body.get("valid") is True


def _objects(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
