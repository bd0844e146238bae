"""Python's collector of cycles."""

import gc


def begin() -> None:
    """Called before the modules are loaded. What they make stays, and there is much of it: to look through it again and
    again would take a fifth of the time to start."""
    gc.set_threshold(100_000, 20, 50)


def settle() -> None:
    """Called in a process that serves, once all is loaded that stays as long as the process: it is not looked through
    for cycles any more, and less often at what comes and goes with requests. A fifth of a small request's processor
    time."""
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
