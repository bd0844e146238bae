"""A client of an identity server (Identity Service API, v2), in the order in which one needs it.

Every method raises ``Refused`` when the server answers with an error, and ``Unreachable`` when it does not answer.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from identity_server.matrix.http import Unreachable
from identity_server.matrix.json_api import Api, Refused, text_of
from identity_server.matrix.signing import InvalidSignature, VerifyKey, verify_json
from identity_server.matrix.threepid import Threepid, canonical, lookup_hash

_V2 = "/_matrix/identity/v2"
_PER_LOOKUP = 1000


class NoCommonAlgorithm(Exception):
    """The server does not hash lookups, and we do not send addresses in the clear."""


@dataclass(frozen=True)
class Policy:
    """One document of the terms of service: per language its name and URL."""

    policy_id: str
    version: str
    texts: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class HashDetails:
    pepper: str
    algorithms: Sequence[str]


class IdentityClient:
    """Speaks to one identity server for one account, once ``register`` or ``api.token`` says which."""

    def __init__(self, api: Api) -> None:
        self.api = api

    # Status, authentication

    async def versions(self) -> list[str]:
        return list((await self.api.call("GET", "/_matrix/identity/versions"))["versions"])

    async def register(self, openid_token: Mapping[str, Any]) -> str:
        """Exchange an OpenID token, as the homeserver gave it, for an access token, which is used from then on."""
        answer = await self.api.call("POST", f"{_V2}/account/register", openid_token)
        self.api.token = text_of(answer, "token")
        return self.api.token

    async def account(self) -> str:
        """The user ID of the access token's holder."""
        return text_of(await self.api.call("GET", f"{_V2}/account"), "user_id")

    async def log_out(self) -> None:
        await self.api.call("POST", f"{_V2}/account/logout", {})
        self.api.token = None

    # Terms of service

    async def terms(self) -> list[Policy]:
        policies: dict[str, Any] = (await self.api.call("GET", f"{_V2}/terms")).get("policies", {})
        return [
            Policy(
                policy_id,
                str(policy.get("version", "")),
                {language: text for language, text in policy.items() if isinstance(text, dict) and "url" in text},
            )
            for policy_id, policy in policies.items()
        ]

    async def accept_terms(self, urls: Iterable[str]) -> None:
        await self.api.call("POST", f"{_V2}/terms", {"user_accepts": list(urls)})

    # Validation

    async def request_email_token(
        self, email: str, client_secret: str, send_attempt: int = 1, next_link: str | None = None
    ) -> str:
        """Have a token sent to ``email``; the ``sid`` of the session that it validates."""
        wanted = {"email": email, "client_secret": client_secret, "send_attempt": send_attempt}
        return await self._request_token("email", wanted, next_link)

    async def request_msisdn_token(
        self, country: str, phone_number: str, client_secret: str, send_attempt: int = 1, next_link: str | None = None
    ) -> str:
        """Have a token sent to ``phone_number``, as dialled in ``country`` (two letters)."""
        wanted = {
            "country": country,
            "phone_number": phone_number,
            "client_secret": client_secret,
            "send_attempt": send_attempt,
        }
        return await self._request_token("msisdn", wanted, next_link)

    async def _request_token(self, medium: str, wanted: dict[str, Any], next_link: str | None) -> str:
        if next_link is not None:
            wanted["next_link"] = next_link
        return text_of(await self.api.call("POST", f"{_V2}/validate/{medium}/requestToken", wanted), "sid")

    async def submit_token(self, medium: str, sid: str, client_secret: str, token: str) -> None:
        submitted = {"sid": sid, "client_secret": client_secret, "token": token}
        answer = await self.api.call("POST", f"{_V2}/validate/{medium}/submitToken", submitted)
        if answer.get("success") is not True:  # how older servers refuse, with status 200
            raise Refused(200, {"errcode": "M_TOKEN_INCORRECT", "error": "The token is not correct", **answer})

    async def validated_threepid(self, sid: str, client_secret: str) -> Threepid:
        """What the session has proven. ``Refused`` with ``M_SESSION_NOT_VALIDATED`` as long as it has not."""
        return (await self.validation(sid, client_secret))[0]

    async def validation(self, sid: str, client_secret: str) -> tuple[Threepid, int]:
        """As ``validated_threepid``, and when that was (ms)."""
        params = {"sid": sid, "client_secret": client_secret}
        answer = await self.api.call("GET", f"{_V2}/3pid/getValidated3pid", params=params)
        validated_ts = answer.get("validated_at")
        if not isinstance(validated_ts, int):
            raise Unreachable("the server's answer lacks validated_at")
        return Threepid(text_of(answer, "medium"), text_of(answer, "address")), validated_ts

    # Associations

    async def bind(self, sid: str, client_secret: str, user_id: str) -> dict[str, Any]:
        """The signed association from the session's address to ``user_id``."""
        claim = {"sid": sid, "client_secret": client_secret, "mxid": user_id}
        return await self.api.call("POST", f"{_V2}/3pid/bind", claim)

    async def unbind(self, threepid: Threepid, user_id: str, session: tuple[str, str] | None = None) -> None:
        """Undo a binding: as its owner, or by ``session``, a ``sid`` and ``client_secret`` that proved the address."""
        wanted: dict[str, Any] = {"mxid": user_id, "threepid": threepid._asdict()}
        if session is not None:
            wanted["sid"], wanted["client_secret"] = session
        await self.api.call("POST", f"{_V2}/3pid/unbind", wanted)

    async def verify_association(self, association: Mapping[str, Any], server_name: str) -> None:
        """Check that ``server_name`` signed ``association``, with keys of its own that it serves.

        Raises ``InvalidSignature``.
        """
        by_signer = association.get("signatures")
        signatures = by_signer.get(server_name) if isinstance(by_signer, dict) else None
        if not isinstance(signatures, dict) or not signatures:
            raise InvalidSignature(f"{server_name} has not signed it")
        for key_id in signatures:
            served = text_of(await self.api.call("GET", f"{_V2}/pubkey/{key_id}"), "public_key")
            verify_json(association, server_name, VerifyKey.from_base64(key_id, served))

    # Lookup

    async def hash_details(self) -> HashDetails:
        answer = await self.api.call("GET", f"{_V2}/hash_details")
        return HashDetails(text_of(answer, "lookup_pepper"), list(answer.get("algorithms", ())))

    async def lookup(self, threepids: Iterable[Threepid]) -> dict[Threepid, str]:
        """The user IDs that ``threepids`` are bound to, for those that are; only hashes leave this machine.

        Addresses are taken in canonical form, which case-folds emails. Raises ``InvalidEmail`` or ``InvalidAddress``
        for what is no address, ``NoCommonAlgorithm``.
        """
        wanted = list(dict.fromkeys(canonical(*threepid) for threepid in threepids))
        details = await self.hash_details()
        found: dict[Threepid, str] = {}
        for start in range(0, len(wanted), _PER_LOOKUP):
            part = wanted[start : start + _PER_LOOKUP]
            try:
                found |= await self._lookup(part, details)
            except Refused as error:
                if error.errcode != "M_INVALID_PEPPER":
                    raise
                # Rotated meanwhile: once more with the new one ("Hash details").
                details = await self.hash_details()
                found |= await self._lookup(part, details)
        return found

    async def _lookup(self, threepids: Sequence[Threepid], details: HashDetails) -> dict[Threepid, str]:
        if "sha256" not in details.algorithms:
            raise NoCommonAlgorithm("the identity server does not offer hashed lookups")
        hashes = {lookup_hash(threepid.address, threepid.medium, details.pepper): threepid for threepid in threepids}
        wanted = {"algorithm": "sha256", "pepper": details.pepper, "addresses": list(hashes)}
        mappings: dict[str, str] = (await self.api.call("POST", f"{_V2}/lookup", wanted)).get("mappings", {})
        return {hashes[hashed]: user_id for hashed, user_id in mappings.items() if hashed in hashes}

    # Invitations

    async def store_invite(
        self, threepid: Threepid, room_id: str, sender: str, about: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Keep an invitation until ``threepid`` is bound; ``about`` are the optional descriptions of room and sender.

        The answer holds what ``m.room.third_party_invite`` needs. ``Refused`` with ``M_THREEPID_IN_USE`` if the
        address is bound already.
        """
        wanted = {**(about or {}), **threepid._asdict(), "room_id": room_id, "sender": sender}
        return await self.api.call("POST", f"{_V2}/store-invite", wanted)
