"""The certificate of the federation port, for a server that was given none: made by an authority of its own.

Whoever is to reach the server trusts ``ca.pem`` (an identity server by ``federation.ca_file``). The authority stays,
so that this needs doing once; the certificate is made afresh at each start, and its key is never stored.
"""

import ssl
from collections.abc import Iterable
from pathlib import Path

import trustme

from identity_server.runtime.key_files import write_secret

CA_FILE = "ca.pem"
_CA_KEY_FILE = "ca.key"


def load_authority(data_dir: Path) -> trustme.CA:
    """The authority in ``data_dir``, made if there is none."""
    certificate, key = data_dir / CA_FILE, data_dir / _CA_KEY_FILE
    if certificate.exists() and key.exists():
        return trustme.CA.from_pem(certificate.read_bytes(), key.read_bytes())
    authority = trustme.CA(organization_name="Homeserver", organization_unit_name="Federation")
    write_secret(key, authority.private_key_pem.bytes())
    certificate.write_bytes(authority.cert_pem.bytes())
    return authority


def issue_certificate(authority: trustme.CA, context: ssl.SSLContext, names: Iterable[str]) -> None:
    """Equip ``context`` with a certificate for ``names`` (host names and IP addresses)."""
    authority.issue_cert(*dict.fromkeys(names)).configure_cert(context)
