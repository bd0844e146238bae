"""Whose signatures an event needs (Server-Server API, "Validating hashes and signatures on received events")."""

from collections.abc import Iterator, Mapping
from typing import Any

from identity_server.homeserver.events.event import Event
from identity_server.homeserver.events.format import is_user_id
from identity_server.matrix.identifiers import domain_of
from identity_server.matrix.signing import ALGORITHM, InvalidSignature, VerifyKey, verify_json

AUTHORISED_VIA = "join_authorised_via_users_server"

# Each attempt takes some 50 µs; an identity server makes one signature, and names a key or two.
_MAX_ATTEMPTS = 1_000


def required_signers(event: Event) -> set[str]:
    """The names of the servers that must all have signed ``event``, redacted, with keys valid at the time.

    None for the invitation of a third party: it is worth what its ``signed`` object is worth (rule 5.4.1 of the
    authorisation rules), and another server than the sender's may send it.
    """
    signers: set[str] = set() if is_third_party_invite(event) else {event.sender_server}
    if event.type == "m.room.member" and event.version.restricted_joins:
        authoriser = event.content.get(AUTHORISED_VIA)
        if is_user_id(authoriser):
            signers.add(domain_of(authoriser))
    return signers


def is_third_party_invite(event: Event) -> bool:
    return event.membership == "invite" and "third_party_invite" in event.content


def is_signed_by_any(signed: Mapping[str, Any], public_keys: Iterator[Any]) -> bool:
    """Whether any signature on ``signed`` was made with any of ``public_keys`` (base64), as whosoever's."""
    signatures = signed.get("signatures")
    if not isinstance(signatures, Mapping):
        return False
    attempts = 0
    for public_key in public_keys:
        for signer, key_ids in signatures.items():
            for key_id in key_ids if isinstance(key_ids, Mapping) else ():
                if not key_id.startswith(f"{ALGORITHM}:"):
                    continue
                if attempts == _MAX_ATTEMPTS:
                    return False
                attempts += 1
                if _is_signed_by(signed, signer, key_id, public_key):
                    return True
    return False


def _is_signed_by(signed: Mapping[str, Any], signer: str, key_id: str, public_key: Any) -> bool:
    try:
        verify_json(signed, signer, VerifyKey.from_base64(key_id, public_key))
    except (InvalidSignature, ValueError, AttributeError, TypeError):
        return False
    return True
