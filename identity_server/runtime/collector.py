"""Python's collector of cycles, for a process that serves."""

import gc


def settle() -> None:
    """Called once all is loaded that stays as long as the process: it is not looked through for cycles any more, and
    less often at what comes and goes with requests. A fifth of a small request's processor time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
