"""A Matrix identity server, with a minimal but real homeserver beside it."""

__version__ = "0.1.0"
