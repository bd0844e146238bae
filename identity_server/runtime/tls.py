"""How TLS is spoken to others."""

import ssl
from functools import cache
from pathlib import Path


# Kept, for reading the system's authorities takes 24 ms of processor time.
@cache
def connecting_context(ca_file: Path | None = None, *, is_verifying: bool = True) -> ssl.SSLContext:
    """``ca_file``: authorities to trust beside the system's. ``is_verifying``: whether certificates are looked at.

    Shared by all who ask for the same: not to be changed. Raises ``OSError``.
    """
    if not is_verifying:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    context = ssl.create_default_context()
    context.hostname_checks_common_name = False  # RFC 6125: the subject alternative names say it
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context
