"""How an event is told that it may not be."""

from identity_server.matrix.errors import Forbidden


class NotAllowed(Forbidden):
    """An authorisation rule rejects the event; ``rule`` is its number in room version 12."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(f"Not allowed: {reason} (rule {rule})")
        self.rule = rule


def require(rule: str, holds: bool, reason: str) -> None:
    """Raises ``NotAllowed`` unless ``holds``; ``reason`` completes "the event is refused, because …"."""
    if not holds:
        raise NotAllowed(rule, reason)
