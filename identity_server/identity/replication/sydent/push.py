"""Sending a peer that runs Sydent what we stated: in batches, in order; what it refuses is left out of the rest."""

from identity_server.identity.associations import store as associations
from identity_server.identity.replication import store
from identity_server.identity.replication.client import PeerRefused
from identity_server.identity.replication.models import Peer
from identity_server.identity.replication.sydent.wire import (
    KEY_ID,
    MAX_BATCH,
    PATH,
    batch_json,
    failed_ids,
    signed_item,
)
from identity_server.identity.signing.keyring import Keyring
from identity_server.matrix.http import Http
from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database

_DEFAULT_PORT = 1001


class SydentPush:
    """``http``: shows our certificate; None if we have none to show."""

    def __init__(self, database: Database, http: Http | None, keyring: Keyring, clock: Clock) -> None:
        self._database = database
        self._http = http
        self._keyring = keyring
        self._clock = clock

    async def push(self, peer: Peer) -> None:
        """Send what ``peer`` has not got, until it has all or is trusted no more.

        Raises ``PeerRefused`` or ``Unreachable``.
        """
        if self._keyring.find(KEY_ID) is None:
            # It would refuse each statement for itself, and each would be set aside.
            raise PeerRefused(f"it verifies the key {KEY_ID} only, and we hold none")
        sent = peer.sent_position
        while True:
            async with self._database.reading() as session:
                if not await store.is_trusted(session, peer.name, now_ms=self._clock.now_ms()):
                    return
                entries = await associations.log_page(session, after=sent, limit=MAX_BATCH)
            if not entries:
                return
            items = {entry.position: signed_item(entry.statement, self._keyring) for entry in entries}
            refused: set[int] = set()
            while rest := {number: item for number, item in items.items() if number not in refused}:
                failed = await self._send(peer, rest)
                if not failed:
                    break
                refused |= failed
            sent = entries[-1].position
            reasons = [(number, "the peer could not verify it") for number in sorted(refused)]
            async with self._database.transaction() as session:
                await store.set_aside(session, peer.name, reasons, of_ours=True, now_ms=self._clock.now_ms())
                await store.change_peer(session, peer.name, sent_position=sent)

    async def _send(self, peer: Peer, items: dict[int, dict[str, object]]) -> set[int]:
        """Which of ``items`` the peer refuses; if any, it is to be sent the others once more."""
        if self._http is None:
            raise PeerRefused("there is no certificate to show it (replication.certificate)")
        base_url = peer.base_url or f"https://{peer.name}:{_DEFAULT_PORT}"
        answer = await self._http.request("POST", base_url + PATH, json=batch_json(items))
        try:
            body = answer.json()
        except ValueError as error:
            raise PeerRefused(f"it answered with status {answer.status} and no JSON") from error
        if answer.status == 200 and isinstance(body, dict) and body.get("success") is True:
            return set()
        if answer.status == 400 and (failed := failed_ids(body, items)):
            return failed
        code = body.get("errcode") if isinstance(body, dict) else None
        raise PeerRefused(f"it answered with status {answer.status} {code or ''}".rstrip())
