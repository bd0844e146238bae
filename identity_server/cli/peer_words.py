"""What `identity-server peers` says, in words for a person at a terminal."""

from datetime import UTC, datetime

from rich.markup import escape

from identity_server.cli.context import console
from identity_server.identity.replication.membership import fingerprint
from identity_server.identity.replication.models import SYDENT, Peer
from identity_server.identity.replication.rules import Rules
from identity_server.matrix.signing import VerifyKey
from identity_server.runtime.clock import SystemClock


def print_peer(peer: Peer, position: int, keys: list[VerifyKey]) -> None:
    now_ms = SystemClock().now_ms()
    console.rule(peer.name, align="left")
    lines = {
        "URL": peer.base_url,
        "protocol": "Sydent's" if peer.protocol == SYDENT else None,
        "state": state_of(peer, now_ms),
        "alarm": peer.alarm,
        "last contact": date(peer.last_contact_ts) or "never",
        "last error": peer.last_error and plain(peer.last_error),
        "failures in a row": str(peer.failures) if peer.failures else None,
        "next try": date(peer.next_try_ts) if peer.next_try_ts > now_ms else None,
        "added": date(peer.added_ts),
        "trusted until": date(peer.expires_ts),
        "sent": f"{peer.sent_position} of our {position} statements",
        "taken": f"{peer.taken_position} of its statements",
        "rules": in_words(Rules.model_validate_json(peer.rules)),
    }
    for label, value in lines.items():
        if value:
            say(f"  {label}: {value}")
    print_keys(keys, indent="  ")


def in_words(rules: Rules) -> str:
    parts = [
        f"{label} {', '.join(values)}"
        for label, values in (
            ("mediums", rules.mediums),
            ("email domains", rules.email_domains),
            ("number prefixes", rules.number_prefixes),
            ("homeservers", rules.homeservers),
        )
        if values
    ]
    return f"{'; '.join(parts) or 'anything'}; at most {rules.max_statements} statements"


def state_of(peer: Peer, now_ms: int) -> str:
    if peer.alarm:
        return "ALARM"
    if peer.is_over(now_ms):
        return "expired"
    if peer.paused:
        return "paused"
    return "failing" if peer.failures else "active"


def print_keys(keys: list[VerifyKey], indent: str = "") -> None:
    for key in keys:
        say(f"{indent}{plain(key.key_id)}  {fingerprint(key)}")


def say(text: str) -> None:
    # One line however narrow the terminal: fingerprints are compared, and names searched for.
    console.print(escape(text), highlight=False, soft_wrap=True)


def plain(text: str) -> str:
    """What a peer may have worded, without anything that would act on a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def date(ts: int | None) -> str:
    return "" if ts is None else datetime.fromtimestamp(ts / 1000, UTC).isoformat(sep=" ", timespec="seconds")
