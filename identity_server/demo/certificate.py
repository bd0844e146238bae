"""The certificate that the demo's servers show each other, and the authority that they trust for it."""

from dataclasses import dataclass
from pathlib import Path

import trustme

from identity_server.demo.serving import HOST


@dataclass(frozen=True)
class Certificate:
    """PEM files."""

    ca_file: Path
    certificate: Path
    key: Path


def make_certificate(folder: Path) -> Certificate:
    """For this machine, by a new authority whose key nobody keeps."""
    authority = trustme.CA(organization_name="Demo")
    leaf = authority.issue_cert("localhost", HOST)
    made = Certificate(folder / "ca.pem", folder / "certificate.pem", folder / "key.pem")
    authority.cert_pem.write_to_path(made.ca_file)
    leaf.cert_chain_pems[0].write_to_path(made.certificate)
    leaf.private_key_pem.write_to_path(made.key)
    return made
