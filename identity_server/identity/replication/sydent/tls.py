"""Mutual TLS as Sydent does it: one certificate serves both ways, and its subject's common name says who it is."""

import ssl
from asyncio import BaseTransport, Transport
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from identity_server.settings import ReplicationSettings


def listening_context(settings: ReplicationSettings) -> ssl.SSLContext:
    """For the port that peers connect to: only with a certificate. Raises ``OSError``."""
    # The purpose means: it is clients who are verified. Their certificates must be made for clients, or for anything.
    context = _context(ssl.Purpose.CLIENT_AUTH, settings)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def connecting_context(settings: ReplicationSettings) -> ssl.SSLContext | None:
    """For connecting to peers; None without a certificate to show them. Raises ``OSError``."""
    if settings.certificate is None:
        return None
    context = _context(ssl.Purpose.SERVER_AUTH, settings)
    context.hostname_checks_common_name = False  # the name is for our table of peers, not for the host
    return context


def _context(purpose: ssl.Purpose, settings: ReplicationSettings) -> ssl.SSLContext:
    assert settings.certificate is not None, "the settings see to it"
    try:
        context = ssl.create_default_context(purpose, cafile=settings.ca_file)
        context.load_cert_chain(settings.certificate)
    except OSError as error:  # which does not say of which file it speaks
        raise OSError(f"replication.certificate or replication.ca_file: {error}") from error
    return context


class CertifiedProtocol(HttpToolsProtocol):
    """HTTP that tells the application the client's certificate, as ``request.state.client_certificate``."""

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(cast(Transport, transport))
        certificate = transport.get_extra_info("ssl_object").getpeercert()
        # A copy: the state itself is shared by all connections.
        self.app_state = {**self.app_state, "client_certificate": certificate}


def subject_of(certificate: dict[str, Any]) -> str | None:
    """The subject's common name, of ``SSLObject.getpeercert``; None unless there is exactly one."""
    parts = [part for relative_name in certificate.get("subject", ()) for part in relative_name]
    names: list[str] = [value for key, value in parts if key == "commonName"]
    return names[0] if len(names) == 1 else None
