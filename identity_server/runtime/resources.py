"""The things that are open while a process runs, and that every capability may need.

What one capability alone needs (the keyring, the outlet) stands beside this in the application's state, under a
name of its own; ``runtime/dependencies.py`` says how an endpoint asks for either.
"""

from dataclasses import dataclass

from identity_server.runtime.clock import Clock
from identity_server.runtime.database import Database
from identity_server.runtime.rate_limits import RateLimits
from identity_server.runtime.tokens import Entropy
from identity_server.settings import Settings


@dataclass(frozen=True)
class Resources:
    settings: Settings
    database: Database
    clock: Clock
    entropy: Entropy
    limits: RateLimits
